package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/api/certs/certstest"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// secured is a stack in which coordinators and workers have certificates, and callers tokens.
type secured struct {
	*local.Stack
	t                   *testing.T
	ours                *certstest.Authority
	client              certs.Files // what a client has
	worker              string      // address of the one worker
	ofWorker, ofCoordin string      // addresses of their metrics
	peerDir             string      // certificates of the worker
	issuer              *ecdsa.PrivateKey
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{t: t, ours: certstest.New(t), peerDir: t.TempDir()}
	trust, tomorrow := []*certstest.Authority{s.ours}, time.Now().Add(20*time.Hour)
	s.client = s.ours.Issue(t.TempDir(), tomorrow, trust, "client")
	public := s.ours.Issue(t.TempDir(), tomorrow, trust, "holdfast.example")
	coordinator := s.ours.Issue(t.TempDir(), tomorrow, trust, certs.Coordinator)
	worker := s.ours.Issue(s.peerDir, tomorrow, trust, certs.Worker)
	s.issuer = newIssuerKey(t)
	tokens := filepath.Join(t.TempDir(), "tokens.yaml")
	hash := func(token string) string { h := sha256.Sum256([]byte(token)); return hex.EncodeToString(h[:]) }
	mustWrite(t, tokens, fmt.Sprintf("- {name: ops, sha256: %s, role: operator}\n- {name: ann, sha256: %s, role: buyer, customer_id: ann}\n",
		hash("ops-secret"), hash("ann-secret")))
	s.ofWorker, s.ofCoordin = freeAddress(t), freeAddress(t)
	s.Stack = startStack(t, local.StackConfig{
		Workers: 1,
		WorkerArgs: []string{
			"--peer-cert", worker.Cert, "--peer-key", worker.Key, "--peer-ca", worker.CA, "--metrics-listen", s.ofWorker, "--log-level", "debug",
		},
		CoordinatorArgs: []string{
			"--tls-cert", public.Cert, "--tls-key", public.Key, "--metrics-listen", s.ofCoordin, "--log-level", "debug",
			"--peer-cert", coordinator.Cert, "--peer-key", coordinator.Key, "--peer-ca", coordinator.CA,
			"--tokens-file", tokens, "--oidc-issuer", "https://issuer.invalid", "--oidc-audience", "holdfast",
			"--oidc-keys-file", publicKeyFile(t, s.issuer),
		},
	})
	out, _, code := holdfast(t, s.Stack, "status", "--json")
	if found := regexp.MustCompile(`"address":\s*"([^"]+)"`).FindStringSubmatch(out); code == 0 && found != nil {
		s.worker = found[1]
	}
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", port)
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newIssuerKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicKeyFile(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "issuer.pem")
	mustWrite(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return path
}

// as runs a client's command with a token.
func (s *secured) as(token string, args ...string) (output string, code int) {
	s.t.Helper()
	args = append(args, "--ca", s.client.CA, "--timeout", "20s")
	if token != "" {
		path := filepath.Join(s.t.TempDir(), "token")
		mustWrite(s.t, path, token+"\n")
		args = append(args, "--token-file", path)
	}
	stdout, stderr, code := holdfast(s.t, s.Stack, args...)
	return stdout + stderr, code
}

// jwt is a token of ann that a key signs.
func jwt(key *ecdsa.PrivateKey, expires time.Time) string {
	return oidctest.SignIDToken(key, "1", oidc.ES256, fmt.Sprintf(
		`{"iss":"https://issuer.invalid","aud":"holdfast","sub":"ann","roles":["buyer"],"exp":%d,"iat":%d}`,
		expires.Unix(), time.Now().Add(-2*time.Hour).Unix()))
}

func scrape(t *testing.T, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Who has no business with it sells and sees nothing, and is counted; who has is served. And no
// secret is in what anybody can read afterwards.
func TestOnlyCallersWithTheRightAreServed(t *testing.T) {
	s := startSecured(t)
	if out, code := s.as("ops-secret", "product", "create", "ticket", "10"); code != 0 {
		t.Fatalf("the operator: exit %d: %s", code, out)
	}
	inAnHour, anHourAgo := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	foreign := jwt(newIssuerKey(t), inAnHour)
	for _, tt := range []struct {
		name, token string
		args        []string
		want        string // in what is said; nothing if it is allowed
	}{
		{"a buyer", "ann-secret", []string{"buy", "ticket", "--customer", "ann"}, ""},
		{"a buyer of the issuer", jwt(s.issuer, inAnHour), []string{"buy", "ticket", "--customer", "ann"}, ""},
		{"nobody", "", []string{"buy", "ticket", "--customer", "ann"}, "needs a token"},
		{"an expired token", jwt(s.issuer, anHourAgo), []string{"buy", "ticket", "--customer", "ann"}, "expired"},
		{"a foreign token", foreign, []string{"buy", "ticket", "--customer", "ann"}, "not one of those"},
		{"another customer's", "ann-secret", []string{"buy", "ticket", "--customer", "bob"}, "customer_id"},
		{"a buyer who creates", "ann-secret", []string{"product", "create", "other", "1"}, "roles do not allow"},
	} {
		out, code := s.as(tt.token, tt.args...)
		if (code == 0) != (tt.want == "") || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d: %s", tt.name, code, out)
		}
	}
	refused := scrape(t, s.ofCoordin)
	for _, reason := range []string{"no_token", "expired", "foreign", "customer", "role"} {
		if !strings.Contains(refused, `holdfast_auth_refused_total{reason="`+reason+`"} 1`) {
			t.Errorf("the refusal is not counted: %s", reason)
		}
	}

	out, code := s.as("ops-secret", "buy", "ticket", "--customer", "ann", "--coordinator", s.worker, "--timeout", "1s")
	if code == 0 {
		t.Errorf("straight to the worker: %s", out)
	}
	if out, code := holdfast2(t, s.Stack, "buy", "ticket", "--customer", "ann", "--timeout", "1s"); code == 0 {
		t.Errorf("in the clear: %s", out)
	}
	if got := scrape(t, s.ofWorker); strings.Contains(got, `holdfast_peer_refused_total{reason="no_certificate"} 0`) {
		t.Error("who came to the worker without a certificate is not counted")
	}
	if got, _ := s.as("ops-secret", "product", "get", "ticket"); !strings.Contains(got, "8") {
		t.Errorf("two of ten were sold: %s", got)
	}
	s.mustHaveLogged("operator", "CreateProductRequest", "token:ops")
	s.mustKeepSecret("ops-secret", "ann-secret", foreign)
}

func holdfast2(t *testing.T, s *local.Stack, args ...string) (output string, code int) {
	t.Helper()
	stdout, stderr, code := holdfast(t, s, args...)
	return stdout + stderr, code
}

func (s *secured) logs() (all string) {
	s.t.Helper()
	paths, _ := filepath.Glob(filepath.Join(s.LogDir, "*.log"))
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		all += string(content)
	}
	return all
}

func (s *secured) mustHaveLogged(words ...string) {
	s.t.Helper()
line:
	for line := range strings.Lines(s.logs()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue line
			}
		}
		return
	}
	s.t.Errorf("no line of the logs has %q", words)
}

func (s *secured) mustKeepSecret(secrets ...string) {
	s.t.Helper()
	seen := s.logs() + scrape(s.t, s.ofCoordin) + scrape(s.t, s.ofWorker)
	for _, secret := range secrets {
		if strings.Contains(seen, secret) {
			s.t.Error("a secret is in the logs or the metrics")
		}
	}
}

// Nothing is in the clear because somebody forgot it.
func TestSecurityIsOnByDefault(t *testing.T) {
	files := certstest.New(t).Issue(t.TempDir(), time.Now().Add(time.Hour), nil, certs.Coordinator)
	gone := filepath.Join(t.TempDir(), "gone")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"coordinator"}, "--oidc-issuer or --tokens-file"},
		{[]string{"coordinator", "--tokens-file", gone}, "--tokens-file"},
		{[]string{"coordinator", "--oidc-issuer", "https://x"}, "oidc-audience"},
		{[]string{"coordinator", "--oidc-issuer", "https://x", "--oidc-audience", "x"}, "--tls-cert and --tls-key"},
		{[]string{"coordinator", "--oidc-issuer", "https://x", "--oidc-audience", "x", "--tls-cert", files.Cert, "--tls-key", files.Key}, "--peer-cert, --peer-key and --peer-ca"},
		{[]string{"coordinator", "--insecure", "--tls-cert", files.Cert}, "--tls-cert and --tls-key"},
		{[]string{"coordinator", "--insecure", "--tls-cert", gone, "--tls-key", gone}, gone},
		{[]string{"coordinator", "--insecure", "--rate-per-buyer", "-1", "--tokens-file", gone}, "--rate-per-buyer"},
		{[]string{"worker", "--shard", "eu=host=x sslmode=verify-full"}, "--peer-cert"},
		{[]string{"worker", "--shard", "eu=postgres://u:secret@x/y?sslmode=verify-full"}, "HOLDFAST_SHARD_"},
		{[]string{"audit", "--shard", "eu=host=x user=u password=secret sslmode=verify-full"}, "HOLDFAST_SHARD_"},
		{[]string{"audit", "--shard", "eu=postgres://u@x/y?sslmode=require"}, "verify-full"},
		{[]string{"audit", "--shard", "eu=postgres://u@x/y"}, "verify-full"},
		{[]string{"audit", "--shard", "eu=host=x sslmode=verify-ca"}, "verify-full"},
		{[]string{"audit", "--insecure", "--shard", "postgres://u:secret@x:y/z?a"}, "eu"},
		{[]string{"audit", "--insecure", "--shard", "eu=postgres://u:secret@x:y/z"}, "shard eu"},
		{[]string{"status", "--etcd", "http://127.0.0.1:1"}, "in the clear"},
		{[]string{"status", "--insecure", "--etcd", "http://127.0.0.1:1", "--etcd-ca", files.Cert}, "in the clear"},
		{[]string{"status", "--etcd-user", "root"}, "--etcd-password-file"},
		{[]string{"status", "--etcd-user", "root", "--etcd-password-file", gone}, "--etcd-password-file"},
		{[]string{"status", "--etcd-ca", gone}, "--etcd-ca"},
		{[]string{"buy", "x", "--customer", "a", "--ca", gone}, "--ca"},
		{[]string{"buy", "x", "--customer", "a", "--token-file", gone}, "--token-file"},
	} {
		_, stderr, code := holdfast(t, nil, tt.args...)
		if tt.want == "eu" { // which of the two is wrong is not to be told
			tt.want = "name=DSN"
		}
		if code != exitUsage || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "secret") {
			t.Errorf("holdfast %s: exit %d: %s", strings.Join(tt.args, " "), code, stderr)
		}
	}
}

// An etcd that wants to know who asks is told, and the password is in no error.
func TestEtcdWithUsers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	etcd, err := local.StartEtcd(ctx, local.EtcdConfig{Dir: t.TempDir(), Logger: localtest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Stop)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, step := range []func() error{
		func() error { _, err := client.RoleAdd(ctx, "root"); return err },
		func() error { _, err := client.UserAdd(ctx, "root", "right-secret"); return err },
		func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	right, wrong := filepath.Join(t.TempDir(), "right"), filepath.Join(t.TempDir(), "wrong")
	mustWrite(t, right, "right-secret\n")
	mustWrite(t, wrong, "wrong-secret\n")
	for _, tt := range []struct {
		args []string
		want string // of a cluster that was not founded yet, or of etcd
	}{
		{[]string{"--etcd-user", "root", "--etcd-password-file", right}, "holdfast migrate"},
		{[]string{"--etcd-user", "root", "--etcd-password-file", wrong}, "authentication failed"},
		{nil, "etcd"},
	} {
		_, stderr, code := holdfast(t, nil, append([]string{"status", "--insecure", "--etcd", etcd.Endpoint()}, tt.args...)...)
		if code == 0 || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "secret") {
			t.Errorf("%q: exit %d: %s", tt.args, code, stderr)
		}
	}
}
