package certs_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/api/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const worker, coordinator = "holdfast-worker", "holdfast-coordinator"

var tomorrow = time.Now().Add(20 * time.Hour).Truncate(time.Second)

func source(t *testing.T, files certs.Files) *certs.Source {
	t.Helper()
	s, err := certs.OpenEvery(files, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// refusals keeps why clients were turned away.
type refusals struct {
	mu  sync.Mutex
	all []certs.Refusal
}

func (r *refusals) add(why certs.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, why)
}

func (r *refusals) take() []certs.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// serve shakes hands with everybody who comes, and says one byte to those it lets in.
func serve(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = tls.Server(conn, cfg).Write([]byte("!"))
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

// enter connects as the source's client, and returns why it was not let in.
func enter(t *testing.T, s *certs.Source, address, name string) error {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	secured, _, err := s.Client(name).Clone().ClientHandshake(ctx, address, conn)
	if err != nil {
		return err
	}
	_, err = secured.Read(make([]byte, 1))
	return err
}

// Whoever holds only a token, or a certificate for something else, must not reach a worker.
func TestOnlyTheTrustedAreLetIn(t *testing.T) {
	ours, theirs := certstest.New(t), certstest.New(t)
	trust := []*certstest.Authority{ours}
	var refused refusals
	address := serve(t, source(t, ours.Issue(t.TempDir(), tomorrow, trust, worker)).ServerFor([]string{coordinator, worker}, refused.add))

	anonymous := ours.Issue(t.TempDir(), tomorrow, trust, "x")
	for _, tt := range []struct {
		name  string
		files certs.Files
		want  []certs.Refusal
	}{
		{"coordinator", ours.Issue(t.TempDir(), tomorrow, trust, coordinator), nil},
		{"worker", ours.Issue(t.TempDir(), tomorrow, trust, "else", worker), nil},
		{"no certificate", certs.Files{CA: anonymous.CA}, []certs.Refusal{certs.NoCertificate}},
		{"of another authority", theirs.Issue(t.TempDir(), tomorrow, trust, coordinator), []certs.Refusal{certs.ForeignCertificate}},
		{"expired", ours.Issue(t.TempDir(), time.Now().Add(-time.Minute), trust, coordinator), []certs.Refusal{certs.ForeignCertificate}},
		{"for somebody else", ours.Issue(t.TempDir(), tomorrow, trust, "etcd"), []certs.Refusal{certs.OtherName}},
	} {
		err := enter(t, source(t, tt.files), address, worker)
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := refused.take(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: refused %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A worker's address is handed out by etcd: what answers there has to prove that it is one.
func TestClientChecksTheServer(t *testing.T) {
	ours, theirs := certstest.New(t), certstest.New(t)
	trust := []*certstest.Authority{ours}
	client := source(t, ours.Issue(t.TempDir(), tomorrow, trust, coordinator))
	for _, tt := range []struct {
		name, asked string
		files       certs.Files
		want        string // in the error
	}{
		{"a worker", worker, ours.Issue(t.TempDir(), tomorrow, trust, worker), ""},
		{"the host", "", ours.Issue(t.TempDir(), tomorrow, trust, "else"), ""}, // 127.0.0.1
		{"another name", worker, ours.Issue(t.TempDir(), tomorrow, trust, coordinator), worker},
		{"another authority", worker, theirs.Issue(t.TempDir(), tomorrow, trust, worker), "unknown authority"},
		{"expired", worker, ours.Issue(t.TempDir(), time.Now().Add(-time.Minute), trust, worker), "expired"},
	} {
		err := enter(t, client, serve(t, source(t, tt.files).Server()), tt.asked)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestNothingOlderThanTLS13(t *testing.T) {
	ours := certstest.New(t)
	address := serve(t, source(t, ours.Issue(t.TempDir(), tomorrow, []*certstest.Authority{ours}, worker)).Server())
	dialer := &tls.Dialer{Config: &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}}
	if conn, err := dialer.DialContext(t.Context(), "tcp", address); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 was spoken")
	}
}

// A certificate that cert-manager has replaced must be in use before the old one expires, on
// both sides and without a restart, and so must another authority.
func TestReplacedFilesAreUsed(t *testing.T) {
	before, after := certstest.New(t), certstest.New(t)
	both := []*certstest.Authority{before, after}
	serverDir, clientDir := t.TempDir(), t.TempDir()
	server := source(t, before.Issue(serverDir, tomorrow, both, worker))
	client := source(t, before.Issue(clientDir, tomorrow, both, coordinator))
	var refused refusals
	address := serve(t, server.ServerFor([]string{coordinator}, refused.add))
	mustEnter := func(when string) {
		t.Helper()
		if err := enter(t, client, address, worker); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	mustEnter("before")
	later := tomorrow.Add(time.Hour)
	after.Issue(serverDir, later, both, worker)
	await(t, func() bool { return server.NotAfter().Equal(later) })
	mustEnter("the server's is replaced")
	after.Issue(clientDir, later, []*certstest.Authority{after}, coordinator)
	await(t, func() bool { return client.NotAfter().Equal(later) })
	mustEnter("the client's is replaced too")

	// Whom nobody trusts any more is not let in, though he was a moment ago.
	after.Issue(serverDir, later.Add(time.Hour), []*certstest.Authority{after}, worker)
	await(t, func() bool { return server.NotAfter().Equal(later.Add(time.Hour)) })
	old := source(t, before.Issue(t.TempDir(), tomorrow, both, coordinator))
	await(t, func() bool { return enter(t, old, address, worker) != nil })
	mustEnter("the old authority is gone")
}

// Half a replacement is no reason to stop serving.
func TestUnreadableFilesChangeNothing(t *testing.T) {
	ours := certstest.New(t)
	trust := []*certstest.Authority{ours}
	dir := t.TempDir()
	files := ours.Issue(dir, tomorrow, trust, worker)
	server := source(t, files)
	address := serve(t, server.Server())
	client := source(t, ours.Issue(t.TempDir(), tomorrow, trust, coordinator))
	if err := os.WriteFile(files.Key, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 { // some of which are after a look at the files
		if err := enter(t, client, address, worker); err != nil {
			t.Fatal(err)
		}
	}
	later := tomorrow.Add(time.Hour)
	ours.Issue(dir, later, trust, worker)
	await(t, func() bool { return server.NotAfter().Equal(later) })
}

func TestWrongFilesAreNamedAtStart(t *testing.T) {
	ours := certstest.New(t)
	good, other := ours.Issue(t.TempDir(), tomorrow, nil, worker), ours.Issue(t.TempDir(), tomorrow, []*certstest.Authority{ours}, worker)
	gone := filepath.Join(t.TempDir(), "gone.pem")
	for _, tt := range []struct {
		files certs.Files
		want  string
	}{
		{certs.Files{}, "at least one"},
		{certs.Files{Cert: gone, Key: gone}, gone},
		{certs.Files{CA: gone}, gone},
		{certs.Files{CA: good.CA}, good.CA + ": no certificate"},
		{certs.Files{Cert: good.Cert}, "open :"},
		{certs.Files{Cert: good.Cert, Key: other.Key}, "does not match"},
	} {
		_, err := certs.Open(tt.files)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.files, err, tt.want)
		}
	}
}

func await(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to be")
		}
	}
}
