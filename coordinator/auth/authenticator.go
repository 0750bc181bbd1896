package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Config says whose tokens are taken: an issuer's, those of a file, or both.
type Config struct {
	OIDC       OIDC   // none if its Issuer is empty
	TokensFile string // none if empty
	Logger     hclog.Logger
}

// Authenticator knows who shows a token. It is safe for concurrent use.
type Authenticator struct {
	issuer *issuer // nil if there is none
	file   *file   // nil if there is none

	// seen are the callers of tokens whose signatures were checked, by the token's hash: a
	// caller shows his again and again, and a signature takes longer than a purchase.
	seen *lru.Cache[[sha256.Size]byte, *Caller]
}

// maxSeen bounds the tokens that are remembered.
const maxSeen = 100_000

// New reads the file of tokens. The issuer is asked when somebody shows a token, so that it
// may be down when the coordinator starts.
func New(cfg Config) (*Authenticator, error) {
	if cfg.OIDC.Issuer == "" && cfg.TokensFile == "" {
		return nil, errors.New("auth: an OIDC issuer or a file of tokens is required")
	}
	seen, err := lru.New[[sha256.Size]byte, *Caller](maxSeen)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{seen: seen}
	if cfg.TokensFile != "" {
		if a.file, err = openFile(cfg.TokensFile, cfg.Logger); err != nil {
			return nil, err
		}
	}
	if cfg.OIDC.Issuer != "" {
		a.issuer, err = newIssuer(cfg.OIDC)
	}
	return a, err
}

// Authenticate returns who shows the value of an Authorization header: "Bearer" and a token.
// Its errors are ErrNoToken, ErrExpired, ErrForeign and ErrUnavailable; none of them quotes
// the token.
func (a *Authenticator) Authenticate(ctx context.Context, header string) (*Caller, error) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	switch {
	case header == "":
		return nil, ErrNoToken
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return nil, ErrForeign
	}
	hash := sha256.Sum256([]byte(token))
	if a.file != nil {
		if c := a.file.find(hash); c != nil {
			return c, nil
		}
	}
	if a.issuer == nil {
		return nil, ErrForeign
	}
	if c, ok := a.seen.Get(hash); ok {
		if !time.Now().Before(c.Expires) {
			return nil, ErrExpired
		}
		return c, nil
	}
	c, err := a.issuer.verify(ctx, token)
	if err == nil {
		a.seen.Add(hash, c)
	}
	return c, err
}
