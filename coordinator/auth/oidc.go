package auth

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/sync/singleflight"
)

// OIDC says which issuer's tokens are taken, and what is in them. Issuer and Audience are
// required.
type OIDC struct {
	Issuer   string // its URL, as it stands in its tokens
	Audience string // whom its tokens must be for

	RolesClaim    string // names the roles, one or a list; dots lead into objects. "roles" if empty
	CustomerClaim string // names the customer of a buyer. "sub" if empty

	KeysFile string // PEM public keys to check signatures with, instead of asking the issuer
	CAFile   string // PEM certificates of whom to trust about the issuer; the system's if empty
}

// issuerTimeout bounds each question to the issuer.
const issuerTimeout = 5 * time.Second

// issuer checks the tokens of an OpenID Connect issuer
// (https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation).
type issuer struct {
	cfg    OIDC
	client *http.Client

	asking   singleflight.Group
	verifier atomic.Pointer[oidc.IDTokenVerifier] // nil until the issuer has answered
}

func newIssuer(cfg OIDC) (*issuer, error) {
	if cfg.Audience == "" {
		return nil, errors.New("oidc-audience is required: without it tokens for others would be taken")
	}
	i := &issuer{cfg: cfg, client: &http.Client{Timeout: issuerTimeout}}
	if cfg.CAFile != "" {
		encoded, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("oidc-ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(encoded) {
			return nil, fmt.Errorf("oidc-ca: %s: no certificate in it", cfg.CAFile)
		}
		i.client.Transport = &http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, // not all issuers know 1.3
		}
	}
	if cfg.KeysFile != "" {
		keys, err := readKeys(cfg.KeysFile)
		if err != nil {
			return nil, fmt.Errorf("oidc-keys-file: %w", err)
		}
		i.verifier.Store(oidc.NewVerifier(cfg.Issuer, &oidc.StaticKeySet{PublicKeys: keys}, i.verifierConfig()))
	}
	return i, nil
}

func (i *issuer) verifierConfig() *oidc.Config {
	return &oidc.Config{ClientID: i.cfg.Audience, SupportedSigningAlgs: []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
	}}
}

func readKeys(path string) (keys []crypto.PublicKey, err error) {
	rest, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no public key in it", path)
	}
	return keys, nil
}

// discovered asks the issuer for its keys, the first time and until it has answered. Those who
// come meanwhile wait for the same answer, each until his own context ends; so nobody's context is
// the question's, which ends by itself after the timeout.
func (i *issuer) discovered(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	if verifier := i.verifier.Load(); verifier != nil {
		return verifier, nil
	}
	answer := i.asking.DoChan("", func() (any, error) {
		// What is made of the context goes on asking for keys when the calls are over.
		ctx := oidc.ClientContext(context.Background(), i.client)
		provider, err := oidc.NewProvider(ctx, i.cfg.Issuer)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		verifier := provider.VerifierContext(ctx, i.verifierConfig())
		i.verifier.Store(verifier)
		return verifier, nil
	})
	select {
	case found := <-answer:
		if found.Err != nil {
			return nil, found.Err
		}
		return found.Val.(*oidc.IDTokenVerifier), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// clockLeeway is by how much the issuer's clock may be ahead of this one.
const clockLeeway = 30 * time.Second

func (i *issuer) verify(ctx context.Context, raw string) (*Caller, error) {
	if strings.Count(raw, ".") != 2 {
		return nil, ErrForeign // nothing to ask the issuer about
	}
	verifier, err := i.discovered(ctx)
	if err != nil {
		return nil, err
	}
	token, err := verifier.Verify(oidc.ClientContext(ctx, i.client), raw)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return nil, ErrExpired
	case err != nil && strings.Contains(err.Error(), "fetching keys"):
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case err != nil:
		return nil, ErrForeign
	case token.Subject == "" || token.IssuedAt.After(time.Now().Add(clockLeeway)):
		return nil, ErrForeign
	}
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return nil, ErrForeign
	}
	c := &Caller{Name: token.Issuer + "#" + token.Subject, Expires: token.Expiry}
	for _, name := range textsOf(claims, orElse(i.cfg.RolesClaim, "roles")) {
		c.Roles |= roleNames[name]
	}
	if c.Roles.Has(Buyer) {
		if ids := textsOf(claims, orElse(i.cfg.CustomerClaim, "sub")); len(ids) == 1 {
			c.CustomerID = ids[0]
		}
	}
	return c, nil
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// textsOf is what a claim says: one text or a list of them. The claim has the name, or else
// lies in the objects that the name's dots lead into, as Keycloak's realm_access.roles.
func textsOf(claims map[string]json.RawMessage, name string) []string {
	raw, found := claims[name]
	if first, rest, nested := strings.Cut(name, "."); !found && nested {
		var inner map[string]json.RawMessage
		if json.Unmarshal(claims[first], &inner) != nil {
			return nil
		}
		return textsOf(inner, rest)
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var many []string
	if json.Unmarshal(raw, &many) != nil {
		return nil
	}
	return many
}
