package link

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// regionKey names, in the metadata of a link or of a call, the region of its coordinator.
const regionKey = "holdfast-region"

// TellRegion are options of connections to workers: each link and each call tells in which
// region its coordinator is. A link does so once, when it is opened. There are none for a
// coordinator without a region.
func TellRegion(region string) []grpc.DialOption {
	if region == "" {
		return nil
	}
	tell := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, regionKey, region)
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(
			ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			return invoke(tell(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return open(tell(ctx), desc, cc, method, opts...)
		}),
	}
}

// ToldRegion is the region of the coordinator that a call came through; empty when it has
// told none.
func ToldRegion(ctx context.Context) string {
	if told := metadata.ValueFromIncomingContext(ctx, regionKey); len(told) > 0 {
		return told[0]
	}
	return ""
}

// Region is the region of the coordinator that waits; empty when it has told none.
func (s *Sale) Region() string { return s.end.region }
