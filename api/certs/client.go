package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// Client is for a gRPC client. It trusts the authorities of the file, or the system's if there
// is none, and shows the certificate, if there is one. The server's certificate must be for
// the name; if that is empty, for the host that is connected to.
func (s *Source) Client(name string) credentials.TransportCredentials {
	return &client{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), source: s, name: name}
}

// client makes TLS's own client anew for each connection, as tls.Config has no way to change
// whom it trusts.
type client struct {
	credentials.TransportCredentials // for all else

	source *Source
	name   string
}

func (c *client) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	material, err := c.source.now(ctx)
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: material.Roots, Certificates: material.Certs,
	}).ClientHandshake(ctx, cmp.Or(c.name, authority), conn)
}

func (c *client) Clone() credentials.TransportCredentials {
	return &client{TransportCredentials: c.TransportCredentials.Clone(), source: c.source, name: c.name}
}
