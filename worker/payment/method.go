package payment

import (
	"errors"
	"fmt"
	"strings"
)

// ErrMethod says that a payment_method cannot be used. Its texts name that field and what
// is wrong with it, and are fit for whoever sent it.
var ErrMethod = errors.New("payment_method")

const (
	maxProvider = 32
	maxToken    = 128
)

// Method is a payment_method as customers' purchases have it: the name of a provider,
// and the provider's token of the customer's means of payment.
type Method struct {
	Provider string
	// Token may be empty where the provider needs none.
	Token string
}

// ParseMethod reads "provider" or "provider:token". A provider's name begins with a letter
// and has lower-case letters, digits, "_" and "-"; a token is visible ASCII, and
// may have colons. The error is [ErrMethod].
func ParseMethod(s string) (Method, error) {
	name, token, colon := strings.Cut(s, ":")
	if err := checkName(name); err != nil {
		return Method{}, err
	}
	switch {
	case colon && token == "":
		return Method{}, fmt.Errorf("%w %q has a colon and no token after it", ErrMethod, s)
	case len(token) > maxToken:
		return Method{}, fmt.Errorf("%w has a token of %d bytes, more than %d", ErrMethod, len(token), maxToken)
	case !visible(token):
		return Method{}, fmt.Errorf("%w %q has a token with more than visible ASCII", ErrMethod, s)
	}
	return Method{Provider: name, Token: token}, nil
}

// String is what ParseMethod reads.
func (m Method) String() string {
	if m.Token == "" {
		return m.Provider
	}
	return m.Provider + ":" + m.Token
}

func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("%w names no provider", ErrMethod)
	}
	if len(name) > maxProvider {
		return fmt.Errorf("%w names a provider of %d bytes, more than %d", ErrMethod, len(name), maxProvider)
	}
	if name[0] < 'a' || name[0] > 'z' || strings.IndexFunc(name, outsideName) >= 0 {
		return fmt.Errorf("%w names the provider %q, which is not a lower-case letter"+
			" followed by such letters, digits, _ and -", ErrMethod, name)
	}
	return nil
}

func outsideName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
}
