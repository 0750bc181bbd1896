package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testIssuer is an OpenID Connect issuer that answers over HTTP.
type testIssuer struct {
	*httptest.Server
	key   *ecdsa.PrivateKey
	asked int // questions it was asked
}

func newTestIssuer(t *testing.T) *testIssuer {
	t.Helper()
	i := &testIssuer{key: newKey(t)}
	server := &oidctest.Server{
		PublicKeys: []oidctest.PublicKey{{PublicKey: i.key.Public(), KeyID: "1", Algorithm: oidc.ES256}},
		Algorithms: []string{oidc.ES256},
	}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked++
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); i.Close() })
	server.SetIssuer(i.URL)
	return i
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// token is what the key signs: the claims of ann, a buyer, until in an hour, with some of
// them given in another way.
func token(key *ecdsa.PrivateKey, issuer string, otherwise string) string {
	claims := map[string]string{
		"iss": `"` + issuer + `"`, "aud": `"holdfast"`, "sub": `"ann"`, "roles": `["buyer"]`,
		"exp": fmt.Sprint(time.Now().Add(time.Hour).Unix()), "iat": fmt.Sprint(time.Now().Unix()),
	}
	if name, value, ok := strings.Cut(otherwise, "="); ok {
		claims[name] = value
	}
	var fields []string
	for name, value := range claims {
		if value != "" {
			fields = append(fields, fmt.Sprintf("%q:%s", name, value))
		}
	}
	return "Bearer " + oidctest.SignIDToken(key, "1", oidc.ES256, "{"+strings.Join(fields, ",")+"}")
}

func authenticator(t *testing.T, cfg Config) *Authenticator {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A token that proves nothing must let nobody in.
func TestTokensOfAnIssuer(t *testing.T) {
	issuer, stranger := newTestIssuer(t), newKey(t)
	a := authenticator(t, Config{OIDC: OIDC{Issuer: issuer.URL, Audience: "holdfast"}})
	hourAgo := fmt.Sprint(time.Now().Add(-time.Hour).Unix())
	valid := token(issuer.key, issuer.URL, "")
	tampered := strings.Split(valid, ".")
	tampered[1] = strings.Split(token(issuer.key, issuer.URL, `roles="operator"`), ".")[1]
	unsigned := "Bearer eyJhbGciOiJub25lIn0." + strings.Split(valid, ".")[1] + "."
	for _, tt := range []struct {
		name, header string
		want         error
	}{
		{"ours", valid, nil},
		{"lower case", "bearer" + strings.TrimPrefix(valid, "Bearer"), nil},
		{"none", "", ErrNoToken},
		{"expired", token(issuer.key, issuer.URL, "exp="+hourAgo), ErrExpired},
		{"signed by somebody else", token(stranger, issuer.URL, ""), ErrForeign},
		{"tampered with", strings.Join(tampered, "."), ErrForeign},
		{"not signed", unsigned, ErrForeign},
		{"of another issuer", token(issuer.key, "https://else.example", ""), ErrForeign},
		{"for another audience", token(issuer.key, issuer.URL, `aud="else"`), ErrForeign},
		{"for many, us too", token(issuer.key, issuer.URL, `aud=["else","holdfast"]`), nil},
		{"of nobody", token(issuer.key, issuer.URL, `sub=`), ErrForeign},
		{"of the future", token(issuer.key, issuer.URL, "iat="+fmt.Sprint(time.Now().Add(time.Hour).Unix())), ErrForeign},
		{"no JWT", "Bearer secret", ErrForeign},
		{"no scheme", "secret", ErrForeign},
		{"another scheme", "Basic YTpi", ErrForeign},
		{"no token", "Bearer ", ErrForeign},
	} {
		c, err := a.Authenticate(t.Context(), tt.header)
		if !errors.Is(err, tt.want) || (c == nil) != (err != nil) {
			t.Errorf("%s: %+v, %v; want %v", tt.name, c, err, tt.want)
		}
		if err != nil && len(tt.header) > 10 && strings.Contains(err.Error(), tt.header[7:]) {
			t.Errorf("%s: the error quotes the token: %v", tt.name, err)
		}
	}
}

func TestWhatClaimsSay(t *testing.T) {
	issuer := newTestIssuer(t)
	for _, tt := range []struct {
		name           string
		cfg            OIDC
		otherwise      string
		roles          Roles
		customer, role string
	}{
		{"as it comes", OIDC{}, "", Buyer, "ann", ""},
		{"one role as a text", OIDC{}, `roles="operator"`, Operator, "", ""},
		{"several", OIDC{}, `roles=["viewer","buyer","else"]`, Viewer | Buyer, "ann", ""},
		{"none", OIDC{}, `roles=[]`, 0, "", ""},
		{"no claim", OIDC{}, `roles=`, 0, "", ""},
		{"no text", OIDC{}, `roles=7`, 0, "", ""},
		{"in objects", OIDC{RolesClaim: "realm_access.roles"}, `realm_access={"roles":["viewer"]}`, Viewer, "", ""},
		{"a name with dots", OIDC{RolesClaim: "https://shop.example/roles"}, `https://shop.example/roles=["viewer"]`, Viewer, "", ""},
		{"a customer of its own", OIDC{CustomerClaim: "customer"}, `customer="c7"`, Buyer, "c7", ""},
		{"no customer", OIDC{CustomerClaim: "customer"}, "", Buyer, "", ""},
		{"two customers", OIDC{CustomerClaim: "customer"}, `customer=["a","b"]`, Buyer, "", ""},
	} {
		tt.cfg.Issuer, tt.cfg.Audience = issuer.URL, "holdfast"
		c, err := authenticator(t, Config{OIDC: tt.cfg}).Authenticate(t.Context(), token(issuer.key, issuer.URL, tt.otherwise))
		if err != nil || c.Roles != tt.roles || c.CustomerID != tt.customer || c.Name != issuer.URL+"#ann" {
			t.Errorf("%s: %+v, %v", tt.name, c, err)
		}
	}
}

// A signature takes longer than a purchase, so it is checked once; but an expired token stays
// expired.
func TestTokensAreRememberedUntilTheyExpire(t *testing.T) {
	issuer := newTestIssuer(t)
	a := authenticator(t, Config{OIDC: OIDC{Issuer: issuer.URL, Audience: "holdfast"}})
	header := token(issuer.key, issuer.URL, "")
	first, err := a.Authenticate(t.Context(), header)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.Authenticate(t.Context(), header); again != first || err != nil {
		t.Errorf("%+v, %v", again, err)
	}
	hash := sha256.Sum256([]byte(strings.TrimPrefix(header, "Bearer ")))
	a.seen.Add(hash, &Caller{Roles: Operator, Expires: time.Now().Add(-time.Second)})
	if c, err := a.Authenticate(t.Context(), header); !errors.Is(err, ErrExpired) {
		t.Errorf("%+v, %v", c, err)
	}
}

// Coordinators start when the issuer is down, and go on when it comes back.
func TestIssuerThatIsDown(t *testing.T) {
	issuer := newTestIssuer(t)
	down := true
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body := httptest.NewRecorder()
		issuer.Config.Handler.ServeHTTP(body, r)
		_, _ = w.Write([]byte(strings.ReplaceAll(body.Body.String(), issuer.URL, "http://"+r.Host)))
	}))
	t.Cleanup(front.Close)
	a := authenticator(t, Config{OIDC: OIDC{Issuer: front.URL, Audience: "holdfast"}})
	header := token(issuer.key, front.URL, "")
	if _, err := a.Authenticate(t.Context(), header); !errors.Is(err, ErrUnavailable) {
		t.Errorf("down: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), "Bearer x"); !errors.Is(err, ErrForeign) {
		t.Errorf("down, and no JWT: %v", err)
	}
	down = false
	if _, err := a.Authenticate(t.Context(), header); err != nil {
		t.Errorf("up: %v", err)
	}
}

func TestKeysOfAFile(t *testing.T) {
	key := newKey(t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	a := authenticator(t, Config{OIDC: OIDC{Issuer: "https://issuer.invalid", Audience: "holdfast", KeysFile: path}})
	if _, err := a.Authenticate(t.Context(), token(key, "https://issuer.invalid", "")); err != nil {
		t.Error(err)
	}
	if _, err := a.Authenticate(t.Context(), token(newKey(t), "https://issuer.invalid", "")); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func hashed(token string) string {
	hash := sha256.Sum256([]byte(token))
	return hex.EncodeToString(hash[:])
}

func TestTokensOfAFile(t *testing.T) {
	path := write(t, fmt.Sprintf(`
- {name: shop, sha256: %s, role: operator}
- {name: ann, sha256: %s, role: buyer, customer_id: c1}
`, hashed("s3cret"), hashed("anns")))
	a := authenticator(t, Config{TokensFile: path})
	if c, err := a.Authenticate(t.Context(), "Bearer s3cret"); err != nil || c.Name != "token:shop" || c.Roles != Operator {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := a.Authenticate(t.Context(), "Bearer anns"); err != nil || c.CustomerID != "c1" || c.Roles != Buyer {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := a.Authenticate(t.Context(), "Bearer "+hashed("s3cret")); !errors.Is(err, ErrForeign) {
		t.Errorf("the hash is no token: %v", err)
	}

	// A token is revoked by taking it out; a file that is broken revokes none.
	replace := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		a.file.looked = time.Now().Add(-time.Minute)
	}
	replace("- {name: shop")
	if _, err := a.Authenticate(t.Context(), "Bearer s3cret"); err != nil {
		t.Errorf("the file is broken: %v", err)
	}
	replace(fmt.Sprintf("- {name: shop, sha256: %s, role: operator}", hashed("another")))
	if _, err := a.Authenticate(t.Context(), "Bearer s3cret"); !errors.Is(err, ErrForeign) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), "Bearer another"); err != nil {
		t.Errorf("new: %v", err)
	}
}

func TestWrongConfiguration(t *testing.T) {
	hash := hashed("x")
	for _, tt := range []struct{ file, want string }{
		{"{name: a}", "not a YAML list"},
		{"- {name: a, sha: 1}", "not a YAML list"},
		{"- {sha256: " + hash + ", role: viewer}", "name is required"},
		{"- {name: a, sha256: secret, role: viewer}", "sha256 must be"},
		{"- {name: a, sha256: " + hash + "00, role: viewer}", "sha256 must be"},
		{"- {name: a, sha256: " + hash + ", role: admin}", "role must be"},
		{"- {name: a, sha256: " + hash + ", role: buyer}", "customer_id is required"},
		{"- {name: a, sha256: " + hash + ", role: viewer, customer_id: c}", "customer_id is required"},
		{"- {name: a, sha256: " + hash + ", role: viewer}\n- {name: a, sha256: " + hashed("y") + ", role: viewer}", "there twice"},
		{"- {name: a, sha256: " + hash + ", role: viewer}\n- {name: b, sha256: " + hash + ", role: viewer}", `has the token of "token:a"`},
	} {
		_, err := New(Config{TokensFile: write(t, tt.file)})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", tt.file, err)
		}
	}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "required"},
		{Config{TokensFile: "/nowhere"}, "tokens-file"},
		{Config{OIDC: OIDC{Issuer: "https://x"}}, "oidc-audience"},
		{Config{OIDC: OIDC{Issuer: "https://x", Audience: "a", KeysFile: "/nowhere"}}, "oidc-keys-file"},
		{Config{OIDC: OIDC{Issuer: "https://x", Audience: "a", KeysFile: write(t, "x")}}, "no public key"},
		{Config{OIDC: OIDC{Issuer: "https://x", Audience: "a", CAFile: write(t, "x")}}, "oidc-ca"},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.cfg, err)
		}
	}
}

func FuzzTokensFile(f *testing.F) {
	f.Add("- {name: a, sha256: " + hashed("x") + ", role: viewer}")
	f.Add("- {name: a, role: buyer, customer_id: [")
	f.Fuzz(func(t *testing.T, content string) {
		callers, err := parse([]byte(content))
		if err != nil && callers != nil {
			t.Error("tokens of a file that is wrong")
		}
		for _, c := range callers {
			if c.Roles == 0 || c.Name == "token:" {
				t.Errorf("%+v", c)
			}
		}
	})
}
