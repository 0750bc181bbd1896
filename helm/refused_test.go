package helm

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
)

// good is the least that is needed, to which each case below adds its mistake.
const good = chartDir + "/tests/values/good.yaml"

// The chart says what would not work before anything is installed, and which value it is.
func TestValuesAreRefused(t *testing.T) {
	for _, c := range []struct{ name, values, want string }{
		{"no shard", `shards: []`, "shards: give at least one"},
		{"only spare shards", `shards: [{name: eu, spare: true, existingSecret: {name: eu, key: uri}}]`, "shards: all are spare"},
		{"no etcd", `etcd: {endpoints: []}`, "etcd.endpoints: "},
		{"leaving out an alert that is none", `prometheusRule: {enabled: true, without: [HoldfastBored]}`, `prometheusRule.without: there is no alert "HoldfastBored"`},
		{"a shard twice", `shards: [{name: eu, dsn: a}, {name: us, dsn: b}, {name: eu, dsn: c}]`, `shards[2].name: "eu" is shards[0]`},
		{"a shard with both", `shards: [{name: eu, dsn: a, existingSecret: {name: eu, key: uri}}]`, "shards[0]: shard eu has both"},
		{"a shard with neither", `shards: [{name: us, dsn: a}, {name: eu}]`, "shards[1]: shard eu has neither"},
		{"a TTL beyond the grace period", `worker: {lockTTL: 31s}`, "worker.lockTTL: 31s is longer than worker.terminationGracePeriodSeconds, 30"},
		{"the same in minutes", `{worker: {lockTTL: 1m1s, terminationGracePeriodSeconds: 60}}`, "worker.lockTTL: 1m1s"},
		{"no time to drain a worker", `worker: {drainTimeout: 30s}`, "worker.terminationGracePeriodSeconds: 30 is not more"},
		{"no time to drain a coordinator", `coordinator: {drainTimeout: 25.5s}`, "coordinator.terminationGracePeriodSeconds: 30 is not more"},
		{"a shared grace period that is too short", `{defaults: {terminationGracePeriodSeconds: 15}}`, "coordinator.terminationGracePeriodSeconds: 15 is not more"},
		{"scaling by nothing", `coordinator: {autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}`, "coordinator.autoscaling.enabled: needs"},
		{"no certificate for clients", `tls: {server: {existingSecret: ""}}`, "tls.server.existingSecret: name the Secret"},
		{"no certificate for workers", `tls: {peer: {worker: {existingSecret: ""}}}`, "tls.peer.worker.existingSecret: name the Secret"},
		{"no certificate for coordinators", `tls: {peer: {coordinator: {existingSecret: ""}}}`, "tls.peer.coordinator.existingSecret: name the Secret"},
		{"workers' key for coordinators", `tls: {peer: {coordinator: {existingSecret: peer-worker}}}`, "tls.peer.worker.existingSecret: is that of coordinators too"},
		{"no way to log in", `auth: {tokens: {existingSecret: {name: ""}}}`, "auth.oidc.issuer: name who issues tokens"},
		{"tokens for anybody", `auth: {oidc: {issuer: "https://login"}}`, "auth.oidc.audience: "},
		{"an audience of no issuer", `auth: {oidc: {audience: holdfast}}`, "auth.oidc.issuer: is required"},
		{"keys of no issuer", `auth: {oidc: {keys: {existingSecret: {name: keys}}}}`, "auth.oidc.issuer: is required"},
		{"etcd in the clear", `etcd: {endpoints: ["https://a:2379", "b:2379"]}`, "etcd.endpoints[1]: b:2379 is not https"},
		{"etcd with TLS where there is none", `{insecure: true, etcd: {endpoints: ["https://a:2379"]}}`, "etcd.endpoints[0]: https://a:2379 speaks TLS"},
		{"a database in the clear", `shards: [{name: eu, dsn: "postgres://eu/holdfast?sslmode=require"}]`, "shards[0].dsn: must say sslmode=verify-full"},
		{"parameters of no Secret", `shards: [{name: eu, dsn: "postgres://eu", parameters: sslmode=verify-full}]`, "shards[0].parameters: "},
		{"databases for trying out without a certificate", `{dev: {enabled: true}, shards: [{name: us}]}`, "dev.tls.existingSecret: name the Secret"},
		{"etcd for trying out without a certificate", `{dev: {enabled: true}, etcd: {endpoints: []}}`, "dev.tls.existingSecret: name the Secret"},
		{"less than the least", `coordinator: {autoscaling: {enabled: true, minReplicas: 11}}`, "coordinator.autoscaling.minReplicas: 11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, skipSchema := range []bool{false, true} {
				if _, err := render(values(t, c.values), skipSchema); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("schema skipped: %v; got %v, want %q", skipSchema, err, c.want)
				}
			}
		})
	}
}

// What is in front of a limit still works.
func TestValuesAtTheLimitAreTaken(t *testing.T) {
	for _, v := range []string{
		`worker: {lockTTL: 30s}`,
		`worker: {lockTTL: 1m, terminationGracePeriodSeconds: 60, drainTimeout: 59.9s}`,
		`coordinator: {drainTimeout: 24s}`,
		`coordinator: {preStopSeconds: 0, drainTimeout: 29s}`,
		`{defaults: {terminationGracePeriodSeconds: 16}, worker: {lockTTL: 16s}}`,
		`{insecure: true, etcd: {endpoints: [a:1]}, shards: [{name: a, dsn: x}, {name: ` + strings.Repeat("b", 32) + `, dsn: x}, {name: c-1, dsn: x}]}`,
		`{insecure: true, etcd: {endpoints: []}, dev: {enabled: true}, shards: [{name: eu}, {name: us, dsn: x}]}`,
		`{etcd: {endpoints: []}, dev: {enabled: true, tls: {existingSecret: stores}}, shards: [{name: eu}, {name: us, dsn: "postgres://us?sslmode=verify-full"}]}`,
		`{insecure: true, etcd: {endpoints: ["http://a:2379", "b:2379"]}, tls: {server: {existingSecret: ""}}}`,
		`auth: {oidc: {issuer: "https://login", audience: holdfast}, tokens: {existingSecret: {name: ""}}}`,
		`tls: {server: {caKey: ""}}`,
		`region: eu-west`,
		`worker: {sweepInterval: 0s, auditInterval: 0s, extraArgs: ["--stripe-url=http://stripe"]}`,
		`global: {anything: true}`,
		`{coordinator: {resources: null}, worker: {resources: {limits: null}}}`,
	} {
		if _, err := render(values(t, v), false); err != nil {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// What is no value of its kind is refused by the schema, which names it too.
func TestSchemaRefuses(t *testing.T) {
	for _, c := range []struct{ values, want string }{
		{`unknown: 1`, "unknown"},
		{`worker: {replica: 1}`, "replica"},
		{`shards: [{name: EU, dsn: x}]`, "/shards/0/name"},
		{`shards: [{name: eu_west, dsn: x}]`, "/shards/0/name"},
		{`shards: [{name: eu-, dsn: x}]`, "/shards/0/name"},
		{`shards: [{name: 1eu, dsn: x}]`, "/shards/0/name"},
		{`shards: [{name: ` + strings.Repeat("b", 33) + `, dsn: x}]`, "/shards/0/name"},
		{`shards: [{dsn: x}]`, "/shards/0"},
		{`shards: [{name: eu, existingSecret: {name: eu}}]`, "/shards/0/existingSecret"},
		{`shards: {eu: x}`, "/shards"},
		{`etcd: {endpoints: ["ftp://etcd:2379"]}`, "/etcd/endpoints/0"},
		{`insecure: "yes"`, "/insecure"},
		{`region: EU`, "/region"},
		{`tls: {server: {secret: a}}`, "secret"},
		{`auth: {oidc: {issuer: "http://login"}}`, "/auth/oidc/issuer"},
		{`auth: {ratePerBuyer: -1}`, "/auth/ratePerBuyer"},
		{`shards: [{name: eu, existingSecret: {name: eu, key: uri}, parameters: "?sslmode=disable"}]`, "/shards/0/parameters"},
		{`shards: [{name: eu, existingSecret: {name: eu, key: uri}, tls: {keys: [ca.crt]}}]`, "/shards/0/tls"},
		{`etcd: {endpoints: [etcd]}`, "/etcd/endpoints/0"},
		{`etcd: {prefix: holdfast}`, "/etcd/prefix"},
		{`worker: {lockTTL: 1500ms}`, "/worker/lockTTL"},
		{`worker: {lockTTL: 0s}`, "/worker/lockTTL"},
		{`worker: {lockTTL: 15}`, "/worker/lockTTL"},
		{`worker: {maxHold: 1d}`, "/worker/maxHold"},
		{`worker: {drainTimeout: -1s}`, "/worker/drainTimeout"},
		{`worker: {sweepInterval: never}`, "/worker/sweepInterval"},
		{`worker: {maxInFlight: 0}`, "/worker/maxInFlight"},
		{`worker: {payments: {simulatorUrl: "simulator:7079"}}`, "/worker/payments/simulatorUrl"},
		{`coordinator: {logLevel: loud}`, "/coordinator/logLevel"},
		{`coordinator: {service: {type: ExternalName}}`, "/coordinator/service/type"},
		{`migrate: {logLevel: info}`, "logLevel"},
		{`image: {digest: latest}`, "/image/digest"},
		{`prometheusRule: {without: [Oversold]}`, "/prometheusRule/without/0"},
		{`dashboard: {labels: {grafana_dashboard: 1}}`, "/dashboard/labels/grafana_dashboard"},
		{`networkPolicy: {shardPorts: []}`, "/networkPolicy/shardPorts"},
		{`defaults: {extraEnv: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: x}}}]}`, "/defaults/extraEnv/0"},
		{`defaults: {tolerations: [{keys: a}]}`, "/defaults/tolerations/0"},
	} {
		if _, err := render(values(t, c.values), false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.values, err, c.want)
		}
	}
}

// The template names a shard that the schema, if it is skipped, does not refuse.
func TestShardNamesAreRefusedWithoutSchema(t *testing.T) {
	for _, name := range []string{"EU", "eu_west", "eu-", "1eu", strings.Repeat("b", 33)} {
		_, err := render(values(t, `shards: [{name: a, dsn: x}, {name: `+name+`, dsn: x}]`), true)
		if err == nil || !strings.Contains(err.Error(), "shards[1].name: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// values are the good ones with others in their place.
func values(t *testing.T, other string) map[string]any {
	t.Helper()
	base := readValues(t, good)
	over, err := chartutil.ReadValues([]byte(other))
	if err != nil {
		t.Fatalf("%s: %v", other, err)
	}
	return chartutil.MergeTables(over, base)
}
