package client

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// stream gives keys to what is sent, and the errors of this package.
type stream struct{ grpc.ClientStream }

func (s stream) SendMsg(m any) error {
	req := withRequestIDs(m.(proto.Message))
	return streamError(s.ClientStream.SendMsg(req))
}

func (s stream) RecvMsg(m any) error { return streamError(s.ClientStream.RecvMsg(m)) }

// streamError leaves io.EOF as it is: it says that the stream is over, as the contract of
// grpc.ClientStream has it.
func streamError(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	return newError(err, "")
}
