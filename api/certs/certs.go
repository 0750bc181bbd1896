// Package certs gives TLS what is in certificate files, as it is in them at the moment.
//
// Certificates are replaced while servers run: by cert-manager, or by whoever keeps them. A
// [Source] looks at its files every ten seconds, and what is made of it uses what it has found
// last: connections that are made from then on show the new certificate and trust the new
// authorities; those that exist go on. Files that cannot be read, or do not fit together, change
// nothing, so a replacement that takes a moment does no harm; one that fails for good is seen in
// [Source.NotAfter] before it matters.
//
// Everything speaks TLS 1.3 and nothing older.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/credentials/tls/certprovider"
	"google.golang.org/grpc/credentials/tls/certprovider/pemfile"
)

// Files name the PEM files of one party. Cert and Key, in one folder, are what it shows; CA
// is whom it trusts. Either may be left out.
type Files struct {
	Cert, Key, CA string
}

// The DNS names in the certificates that coordinators and workers show each other. Who has
// another one is neither, whatever authority has made it. Addresses are not checked: those of
// pods are not known before.
const (
	Coordinator = "holdfast-coordinator"
	Worker      = "holdfast-worker"
)

// refresh is how often the files are looked at.
const refresh = 10 * time.Second

// Source is what is in the files. It is safe for concurrent use.
type Source struct{ provider certprovider.Provider }

// Open reads the files. They must be readable now, and fit together.
func Open(files Files) (*Source, error) { return open(files, refresh) }

func open(files Files, refresh time.Duration) (*Source, error) {
	if err := files.check(); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	provider, err := pemfile.NewProvider(pemfile.Options{
		CertFile: files.Cert, KeyFile: files.Key, RootFile: files.CA, RefreshDuration: refresh,
	})
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return &Source{provider}, nil
}

// check says what is wrong before anything relies on the files; later it would be a
// connection that is not made.
func (f Files) check() error {
	if f.Cert != "" || f.Key != "" {
		if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
			return err // names the file, and never what is in it
		}
	}
	if f.CA == "" {
		return nil
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate in it", f.CA)
	}
	return nil
}

// Close stops looking at the files.
func (s *Source) Close() { s.provider.Close() }

func (s *Source) now(ctx context.Context) (*certprovider.KeyMaterial, error) {
	material, err := s.provider.KeyMaterial(ctx)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return material, nil
}

// NotAfter is when the certificate that is shown now expires; zero if there is none.
func (s *Source) NotAfter() time.Time {
	material, err := s.now(context.Background())
	if err != nil || len(material.Certs) == 0 {
		return time.Time{}
	}
	leaf, err := x509.ParseCertificate(material.Certs[0].Certificate[0])
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// Server is for a server that everybody may connect to.
func (s *Source) Server() *tls.Config { return s.server(tls.NoClientCert, nil) }

// Refusal is why a client of [Source.ServerFor] was turned away.
type Refusal string

// The reasons of a Refusal.
const (
	NoCertificate      Refusal = "no_certificate"
	ForeignCertificate Refusal = "foreign_certificate" // of an authority that is not trusted, or expired
	OtherName          Refusal = "name"                // trusted, but for somebody else
)

// ServerFor is for a server that only clients connect to whose certificate is of the trusted
// authority and for one of these DNS names. Who is turned away is reported.
func (s *Source) ServerFor(names []string, refused func(Refusal)) *tls.Config {
	return s.server(tls.RequestClientCert, func(material *certprovider.KeyMaterial, conn tls.ConnectionState) error {
		why, err := verifyClient(material.Roots, conn.PeerCertificates, names)
		if err != nil {
			refused(why)
		}
		return err
	})
}

func (s *Source) server(ask tls.ClientAuthType, verify func(*certprovider.KeyMaterial, tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			material, err := s.now(hello.Context())
			if err != nil {
				return nil, err
			}
			cfg := &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: protocols, Certificates: material.Certs, ClientAuth: ask,
				// A session that is resumed would show no certificate.
				SessionTicketsDisabled: true,
			}
			if verify != nil {
				cfg.VerifyConnection = func(conn tls.ConnectionState) error { return verify(material, conn) }
			}
			return cfg, nil
		},
	}
}

var protocols = []string{"h2", "http/1.1"}

var (
	errNoCertificate = errors.New("the client shows no certificate")
	errNoAuthority   = errors.New("no authority is trusted about clients")
)

func verifyClient(roots *x509.CertPool, shown []*x509.Certificate, names []string) (Refusal, error) {
	if len(shown) == 0 {
		return NoCertificate, errNoCertificate
	}
	intermediates := x509.NewCertPool()
	for _, cert := range shown[1:] {
		intermediates.AddCert(cert)
	}
	if roots == nil { // which would be the system's
		return ForeignCertificate, errNoAuthority
	}
	_, err := shown[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return ForeignCertificate, fmt.Errorf("the client's certificate: %w", err)
	}
	for _, name := range names {
		if slices.Contains(shown[0].DNSNames, name) {
			return "", nil
		}
	}
	return OtherName, fmt.Errorf("the client's certificate is for %q, want one of %q", shown[0].DNSNames, names)
}
