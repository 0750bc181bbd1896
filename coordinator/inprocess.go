package coordinator

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inProcess is a connection to services of this process, without a network. What HTTP brings
// goes through the same interceptors as what gRPC brings.
type inProcess struct {
	unary   grpc.UnaryServerInterceptor
	stream  grpc.StreamServerInterceptor
	methods map[string]inProcessMethod // by full name
	streams map[string]inProcessStream // likewise
}

type inProcessMethod struct {
	service any
	handler grpc.MethodHandler
}

type inProcessStream struct {
	service any
	grpc.StreamDesc
}

func newInProcess(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) *inProcess {
	return &inProcess{unary, stream, map[string]inProcessMethod{}, map[string]inProcessStream{}}
}

// RegisterService is part of grpc.ServiceRegistrar.
func (c *inProcess) RegisterService(desc *grpc.ServiceDesc, service any) {
	for _, m := range desc.Methods {
		c.methods["/"+desc.ServiceName+"/"+m.MethodName] = inProcessMethod{service, m.Handler}
	}
	for _, m := range desc.Streams {
		c.streams["/"+desc.ServiceName+"/"+m.StreamName] = inProcessStream{service, m}
	}
}

// Invoke is part of grpc.ClientConnInterface. The caller's messages stay its own.
func (c *inProcess) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := c.methods[method]
	if !ok {
		return status.Error(codes.Unimplemented, "there is no method "+method)
	}
	decode := func(req any) error {
		proto.Merge(req.(proto.Message), args.(proto.Message))
		return nil
	}
	resp, err := m.handler(m.service, arrived(ctx), decode, c.unary)
	if err == nil {
		proto.Merge(reply.(proto.Message), resp.(proto.Message))
	}
	return err
}

// arrived makes what a call takes along what it has brought. Nothing of it goes on to workers.
func arrived(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(metadata.NewOutgoingContext(ctx, nil), md)
}

// serve has the service talk to a stream.
func (c *inProcess) serve(method string, stream grpc.ServerStream) error {
	m, ok := c.streams[method]
	if !ok {
		return status.Error(codes.Unimplemented, "there is no method "+method)
	}
	info := &grpc.StreamServerInfo{FullMethod: method, IsClientStream: m.ClientStreams, IsServerStream: m.ServerStreams}
	return c.stream(m.service, stream, info, m.Handler)
}

// NewStream is part of grpc.ClientConnInterface. Streams have paths of their own.
func (c *inProcess) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.ErrUnsupported
}
