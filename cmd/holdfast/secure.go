package main

import (
	"context"
	"crypto/tls"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/coordinator"
	"github.com/holdfast-io/holdfast/coordinator/auth"
	"github.com/holdfast-io/holdfast/worker"
)

// insecureFlag is one flag of a command, however many things ask for it.
func insecureFlag(flags *pflag.FlagSet) func() bool {
	const name = "insecure"
	if flags.Lookup(name) == nil {
		flags.Bool(name, false, "do without TLS and authentication wherever nothing is configured for them")
	}
	return func() bool {
		yes, _ := flags.GetBool(name)
		return yes
	}
}

// certFlags are those of one party's certificate files. Without any of them, which takes
// --insecure, the source is nil.
func certFlags(flags *pflag.FlagSet, prefix, whose string, withCA bool) func() (*certs.Source, error) {
	var files certs.Files
	flags.StringVar(&files.Cert, prefix+"-cert", "", "PEM file with "+whose+"; read again when it changes")
	flags.StringVar(&files.Key, prefix+"-key", "", "PEM file with its key, in the same folder")
	if withCA {
		flags.StringVar(&files.CA, prefix+"-ca", "", "PEM file with the authorities to trust there")
	}
	may := insecureFlag(flags)
	return func() (*certs.Source, error) {
		complete := files.Cert != "" && files.Key != "" && (files.CA != "" || !withCA)
		switch {
		case files == certs.Files{} && may():
			return nil, nil
		case !complete:
			needed := "--" + prefix + "-cert and --" + prefix + "-key"
			if withCA {
				needed = "--" + prefix + "-cert, --" + prefix + "-key and --" + prefix + "-ca"
			}
			return nil, usageError("%s are required; --insecure does without", needed)
		}
		source, err := certs.Open(files)
		if err != nil {
			return nil, usageError("--%s-cert: %w", prefix, err)
		}
		return source, nil
	}
}

// showExpiry tells when the certificate that is shown now expires.
func showExpiry(r prometheus.Registerer, name string, source *certs.Source) {
	if source == nil {
		return
	}
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "holdfast_certificate_not_after_timestamp_seconds",
		Help:        "When the certificate that is shown now expires.",
		ConstLabels: prometheus.Labels{"certificate": name},
	}, func() float64 {
		if at := source.NotAfter(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	})
}

// coordinatorSecurityFlags are those of all that a coordinator shows and asks for.
func coordinatorSecurityFlags(flags *pflag.FlagSet, etcd *etcdSecurity) func(*coordinator.Config) error {
	own := certFlags(flags, "tls", "the certificate of the public API", false)
	peer := certFlags(flags, "peer", "the certificate to show workers, of the name "+certs.Coordinator, true)
	callers := authFlags(flags)
	return func(cfg *coordinator.Config) (err error) {
		if cfg.Authenticator, cfg.Rates, err = callers(cfg.Logger); err != nil {
			return err
		}
		if cfg.Certs, err = own(); err != nil {
			return err
		}
		if cfg.PeerCerts, err = peer(); err != nil {
			return err
		}
		showExpiry(cfg.Metrics, "server", cfg.Certs)
		showExpiry(cfg.Metrics, "peer", cfg.PeerCerts)
		showExpiry(cfg.Metrics, "etcd", etcd.certs)
		return nil
	}
}

// workerSecurityFlags are those of a worker.
func workerSecurityFlags(flags *pflag.FlagSet, etcd *etcdSecurity) func(*worker.Config) error {
	peer := certFlags(flags, "peer", "the certificate to show coordinators and other workers, of the name "+certs.Worker, true)
	may := insecureFlag(flags)
	return func(cfg *worker.Config) (err error) {
		if cfg.PeerCerts, err = peer(); err != nil {
			return err
		}
		cfg.VerifyTLS = !may()
		showExpiry(cfg.Metrics, "peer", cfg.PeerCerts)
		showExpiry(cfg.Metrics, "etcd", etcd.certs)
		return nil
	}
}

// authFlags are whose tokens a coordinator takes, and how many calls each caller may make.
func authFlags(flags *pflag.FlagSet) func(hclog.Logger) (*auth.Authenticator, auth.Rates, error) {
	var cfg auth.Config
	var rates auth.Rates
	flags.StringVar(&cfg.OIDC.Issuer, "oidc-issuer", "", "URL of the OpenID Connect issuer whose tokens are taken")
	flags.StringVar(&cfg.OIDC.Audience, "oidc-audience", "", "whom its tokens must be for")
	flags.StringVar(&cfg.OIDC.RolesClaim, "oidc-roles-claim", "roles", "claim with the roles: buyer, operator, viewer; dots lead into objects")
	flags.StringVar(&cfg.OIDC.CustomerClaim, "oidc-customer-claim", "sub", "claim with the customer for whom a buyer buys")
	flags.StringVar(&cfg.OIDC.KeysFile, "oidc-keys-file", "", "PEM public keys of the issuer, instead of asking it")
	flags.StringVar(&cfg.OIDC.CAFile, "oidc-ca", "", "PEM file with the authorities to trust about the issuer (default the system's)")
	flags.StringVar(&cfg.TokensFile, "tokens-file", "", "YAML list of static tokens: name, sha256, role, customer_id; read again when it changes")
	flags.Float64Var(&rates.PerBuyer, "rate-per-buyer", 50, "calls a second that a buyer may make at each coordinator; 0 for any number")
	flags.Float64Var(&rates.PerCaller, "rate-per-caller", 0, "calls a second that anybody else may make; 0 for any number")
	may := insecureFlag(flags)
	return func(log hclog.Logger) (*auth.Authenticator, auth.Rates, error) {
		switch {
		case cfg.OIDC.Issuer == "" && cfg.TokensFile == "" && may():
			return nil, rates, nil
		case cfg.OIDC.Issuer == "" && cfg.TokensFile == "":
			return nil, rates, usageError("--oidc-issuer or --tokens-file is required; --insecure does without")
		case strings.HasPrefix(cfg.OIDC.Issuer, "http://") && cfg.OIDC.KeysFile == "" && !may():
			return nil, rates, usageError("--oidc-issuer: http:// lets whoever is in between make tokens; --insecure allows it")
		case rates.PerBuyer < 0 || rates.PerCaller < 0:
			return nil, rates, usageError("--rate-per-buyer, --rate-per-caller: must not be below 0")
		}
		cfg.Logger = log.Named("auth")
		a, err := auth.New(cfg)
		if err != nil {
			return nil, rates, usageError("--%w", err)
		}
		return a, rates, nil
	}
}

// etcdSecurity are the flags of how etcd is reached.
type etcdSecurity struct {
	files              certs.Files
	user, passwordFile string
	may                func() bool

	certs *certs.Source // nil if etcd is shown none, and until it is connected to
}

func etcdSecurityFlags(flags *pflag.FlagSet) *etcdSecurity {
	s := &etcdSecurity{may: insecureFlag(flags)}
	flags.StringVar(&s.files.CA, "etcd-ca", "", "PEM file with the authorities to trust about etcd (default the system's)")
	flags.StringVar(&s.files.Cert, "etcd-cert", "", "PEM file with the certificate to show etcd")
	flags.StringVar(&s.files.Key, "etcd-key", "", "PEM file with its key, in the same folder")
	flags.StringVar(&s.user, "etcd-user", "", "name of the user in etcd")
	flags.StringVar(&s.passwordFile, "etcd-password-file", "", "file with the user's password")
	return s
}

// open returns how connections to etcd are made, and the password of its user.
func (s *etcdSecurity) open(endpoints []string) (creds credentials.TransportCredentials, password string, err error) {
	if (s.user == "") != (s.passwordFile == "") {
		return nil, "", usageError("--etcd-user and --etcd-password-file are given together")
	}
	if s.passwordFile != "" {
		content, err := os.ReadFile(s.passwordFile)
		if err != nil {
			return nil, "", usageError("--etcd-password-file: %w", err)
		}
		password = strings.TrimSpace(string(content))
	}
	plain, secure := 0, 0
	for _, e := range endpoints {
		switch {
		case strings.HasPrefix(e, "http://"):
			plain++
		case strings.HasPrefix(e, "https://"):
			secure++
		}
	}
	switch {
	case plain > 0 && (!s.may() || secure > 0 || s.files != certs.Files{}):
		return nil, "", usageError("--etcd: http:// is in the clear; --insecure allows it, where nothing else is configured")
	case s.files == certs.Files{} && secure == 0 && s.may():
		return insecure.NewCredentials(), password, nil
	case s.files == certs.Files{}:
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), password, nil
	}
	source, err := certs.Open(s.files) // for as long as the process lives, as the client
	if err != nil {
		return nil, "", usageError("--etcd-ca, --etcd-cert: %w", err)
	}
	if s.files.Cert != "" {
		s.certs = source
	}
	return source.Client(""), password, nil
}

// clientSecurityFlags are how a client proves who it is, and whom it trusts.
func clientSecurityFlags(flags *pflag.FlagSet) func() (credentials.TransportCredentials, func(context.Context) (string, error), error) {
	ca := flags.String("ca", "", "PEM file with the authorities to trust about coordinators (default the system's)")
	tokenFile := flags.String("token-file", "", "file with the token to show (default what HOLDFAST_TOKEN holds)")
	plain := insecureFlag(flags)
	return func() (credentials.TransportCredentials, func(context.Context) (string, error), error) {
		if plain() && *ca == "" {
			return insecure.NewCredentials(), nil, nil
		}
		creds := credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13})
		if *ca != "" {
			source, err := certs.Open(certs.Files{CA: *ca})
			if err != nil {
				return nil, nil, usageError("--ca: %w", err)
			}
			creds = source.Client("")
		}
		token := os.Getenv("HOLDFAST_TOKEN")
		if *tokenFile != "" {
			content, err := os.ReadFile(*tokenFile)
			if err != nil {
				return nil, nil, usageError("--token-file: %w", err)
			}
			token = strings.TrimSpace(string(content))
		}
		if token == "" {
			return creds, nil, nil
		}
		return creds, func(context.Context) (string, error) { return token, nil }, nil
	}
}

// visiblePassword finds what may be a password in a DSN: the keyword, or what follows the user of a
// URL. The driver takes more than parsers of URLs do, so a DSN is refused rather once too often.
var visiblePassword = regexp.MustCompile(`password\s*=|//[^/@]*:[^/@]*@`)

// refuseVisiblePasswords refuses DSNs with passwords on the command line, which everybody on the
// machine can read.
func refuseVisiblePasswords(cmd *cobra.Command, given []string) error {
	if yes, _ := cmd.Flags().GetBool("insecure"); yes {
		return nil
	}
	for _, s := range given {
		if _, dsn, _ := strings.Cut(s, "="); showsPassword(dsn) {
			return usageError("--shard: everybody on the machine sees a password on the command line; " +
				"set HOLDFAST_SHARD_<NAME> instead")
		}
	}
	return nil
}

func showsPassword(dsn string) bool {
	plain, _ := url.PathUnescape(dsn) // a URL may spell its keywords otherwise
	return visiblePassword.MatchString(dsn) || visiblePassword.MatchString(plain)
}
