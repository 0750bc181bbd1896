package helm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// What Prometheus reads every half minute; "0+300x240" is two hours of 10 a second.
const (
	audits = `
	holdfast_audit_end_timestamp_seconds{job="w",instance="w1"} 0x19 610x19 1220x19 1830x19 2440x19 3050x19 3660x19 4270x19 4880x19 5490x19 6100x19 6710x39
	holdfast_audit_end_timestamp_seconds{job="w",instance="w2"} 0x240`
	sales = `
	holdfast_coordinator_purchases_total{job="c",instance="c1",result="admitted"} 0+300x240
	holdfast_coordinator_purchases_total{job="c",instance="c1",result="refused"} 0+3000x240`
	heard = `
	holdfast_coordinator_workers{job="c",instance="c1",state="heard"} 3x240
	holdfast_coordinator_workers{job="c",instance="c1",state="silent"} 0x240`
	newest = `
	holdfast_audit_end_timestamp_seconds{job="w",instance="w1"} 0x19 610x220
	holdfast_audit_end_timestamp_seconds{job="w",instance="w2"} 300x240`
)

// healthy is two hours in which everything happens that is no reason to look: nearly all is
// sold out, a worker dies with what it held, another one is started anew and forgets its audit.
const healthy = audits + sales + heard + `
	holdfast_audit_oversold_units{job="w",instance="w1"} 0x240
	holdfast_audit_overdue_holds{job="w",instance="w1"} 0x19 7x19 0x200
	holdfast_audit_overdue_payments{job="w",instance="w1"} 0x19 1x19 0x200
	holdfast_audit_orphaned_payments{job="w",instance="w1"} 0x240
	holdfast_audit_undelivered_events{job="w",instance="w1"} 0x19 3x39 0x180
	holdfast_coordinator_purchases_total{job="c",instance="c1",result="failed"} 0x60 40x180
	holdfast_shard_reachable{job="w",instance="w1",shard="eu"} 1x100 0 1x139
	holdfast_shard_reachable{job="w",instance="w2",shard="eu"} 1x100 0 1x139
	holdfast_takeovers_total{job="w",instance="w1",reason="refused"} 0x40 650x200
	holdfast_fence_refusals_total{job="w",instance="w1",shard="eu"} 0x40 25x200
	holdfast_commit_seconds_bucket{job="w",instance="w1",shard="eu",le="0.2"} 0+300x240
	holdfast_commit_seconds_bucket{job="w",instance="w1",shard="eu",le="1"} 0+301x240
	holdfast_commit_seconds_bucket{job="w",instance="w1",shard="eu",le="+Inf"} 0+301x240
	holdfast_certificate_not_after_timestamp_seconds{job="w",instance="w1",certificate="peer"} 7776000x240
	holdfast_auth_refused_total{job="c",instance="c1",reason="expired"} 0+3x240
	holdfast_auth_refused_total{job="c",instance="c1",reason="rate"} 0+3000x240
	holdfast_peer_refused_total{job="w",instance="w1",reason="name"} 0x240
`

func TestNoAlertFiresWhileAllIsWell(t *testing.T) {
	for _, a := range readAlerts(t) {
		if after, labels := firing(t, a, healthy, 2*time.Hour); after > 0 {
			t.Errorf("%s fires after %v: %s", a.Alert, after, labels)
		}
	}
}

// Every alert fires when it should, soon enough; and says where.
func TestAlertsFire(t *testing.T) {
	for alert, c := range map[string]struct {
		series string
		within time.Duration
		labels string // that it fires with, among others
	}{
		"HoldfastOversold": {newest + `
			holdfast_audit_oversold_units{job="w",instance="w1"} 0x19 2x220`, 12 * time.Minute, `job="w"`},
		"HoldfastAuditFindings": {newest + `
			holdfast_audit_findings{job="w",instance="w1",kind="released_off"} _x20 1x220`, 12 * time.Minute, `kind="released_off"`},
		"HoldfastAuditNotDone": {newest, 56 * time.Minute, `job="w"`},
		"HoldfastNotSelling": {sales + `
			holdfast_coordinator_purchases_total{job="c",instance="c1",result="failed"} 0x40 0+300x200`, 25 * time.Minute, `job="c"`},
		"HoldfastShardUnreachable": {`
			holdfast_shard_reachable{job="w",instance="w1",shard="us"} 1x20 0x220
			holdfast_shard_reachable{job="w",instance="w2",shard="us"} 1x19 0x220`, 12 * time.Minute, `shard="us"`},
		"HoldfastNoWorkers": {`
			holdfast_coordinator_workers{job="c",instance="c1",state="heard"} 3x20 0x220`, 12 * time.Minute, `job="c"`},
		"HoldfastNoCoordinators": {sales, 5 * time.Minute, `{}`},
		"HoldfastWorkersSilent": {`
			holdfast_coordinator_workers{job="c",instance="c1",state="silent"} 1x240`, 10 * time.Minute, `job="c"`},
		"HoldfastWorkerCutOff": {`
			holdfast_shard_reachable{job="w",instance="w1",shard="us"} 0x240
			holdfast_shard_reachable{job="w",instance="w2",shard="us"} 1x240`, 10 * time.Minute, `shard="us"`},
		"HoldfastTakeoversGoOn": {`
			holdfast_takeovers_total{job="w",instance="w1",reason="silent"} 0+6x240`, 32 * time.Minute, `job="w"`},
		"HoldfastFenceRefusals": {`
			holdfast_fence_refusals_total{job="w",instance="w1",shard="eu"} 0+6x240`, 16 * time.Minute, `shard="eu"`},
		"HoldfastCommitsSlow": {`
			holdfast_commit_seconds_bucket{job="w",instance="w1",shard="eu",le="0.5"} 0+98x240
			holdfast_commit_seconds_bucket{job="w",instance="w1",shard="eu",le="1"} 0+100x240
			holdfast_commit_seconds_bucket{job="w",instance="w1",shard="eu",le="+Inf"} 0+100x240`, 11 * time.Minute, `shard="eu"`},
		"HoldfastHoldsOverdue": {newest + `
			holdfast_audit_overdue_holds{job="w",instance="w1"} 0x19 9x220`, 26 * time.Minute, `job="w"`},
		"HoldfastPaymentsOverdue": {newest + `
			holdfast_audit_overdue_payments{job="w",instance="w1"} 0x19 9x220`, 26 * time.Minute, `job="w"`},
		"HoldfastPaymentsOrphaned": {newest + `
			holdfast_audit_orphaned_payments{job="w",instance="w1"} 0x19 1x220`, 12 * time.Minute, `job="w"`},
		"HoldfastEventsUndelivered": {newest + `
			holdfast_audit_undelivered_events{job="w",instance="w1"} 0x19 9x220`, 41 * time.Minute, `job="w"`},
		"HoldfastCertificateExpires": {`
			holdfast_certificate_not_after_timestamp_seconds{job="w",instance="w1",certificate="peer"} 1206000x240
			holdfast_certificate_not_after_timestamp_seconds{job="w",instance="w2",certificate="peer"} 7776000x240`, time.Hour, `certificate="peer"`},
		"HoldfastCallersRefused": {`
			holdfast_auth_refused_total{job="c",instance="c1",reason="foreign"} 0+60x240`, 13 * time.Minute, `reason="foreign"`},
		"HoldfastPeersRefused": {`
			holdfast_peer_refused_total{job="w",instance="w1",reason="name"} 0+1x240`, 11 * time.Minute, `reason="name"`},
	} {
		t.Run(alert, func(t *testing.T) {
			for _, a := range readAlerts(t) {
				if a.Alert != alert {
					continue
				}
				after, labels := firing(t, a, c.series, 2*time.Hour)
				if after == 0 || after > c.within || !strings.Contains(labels, c.labels) {
					t.Errorf("fires after %v with %s; want within %v, with %s", after, labels, c.within, c.labels)
				}
			}
		})
	}
}

// What another worker found in an audit before the newest one was repaired since, or is found
// again by that.
func TestOnlyTheNewestAuditCounts(t *testing.T) {
	for _, name := range []string{"oversold_units", "overdue_holds", "overdue_payments", "orphaned_payments", "undelivered_events"} {
		old := newest + fmt.Sprintf(`
			holdfast_audit_%[1]s{job="w",instance="w1"} 0x240
			holdfast_audit_%[1]s{job="w",instance="w2"} 0x20 5x220
			holdfast_audit_findings{job="w",instance="w2",kind="no_fence"} _x20 1x220`, name)
		for _, a := range readAlerts(t) {
			if after, labels := firing(t, a, old, 40*time.Minute); after > 0 && a.Alert != "HoldfastNoCoordinators" {
				t.Errorf("%s: %s fires after %v: %s", name, a.Alert, after, labels)
			}
		}
	}
}

// firing evaluates an alert every half minute, as Prometheus does. It returns when it first
// fired, and with what labels; 0 when it did not.
func firing(t *testing.T, a rulefmt.Rule, series string, until time.Duration) (after time.Duration, labels string) {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 30s\n"+strings.TrimSpace(series))
	defer func() { _ = storage.Close() }()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 100_000)
	var since map[string]time.Duration
	for at := time.Duration(0); at <= until; at += 30 * time.Second {
		query, err := engine.NewInstantQuery(context.Background(), storage, nil, a.Expr, time.Unix(0, 0).Add(at))
		if err != nil {
			t.Fatal(err)
		}
		result, err := query.Exec(context.Background()).Vector()
		if err != nil {
			t.Fatalf("%s: %v", a.Alert, err)
		}
		since = activeSince(result, since, at)
		query.Close()
		for labels, began := range since {
			if at-began >= time.Duration(a.For) {
				return at, labels
			}
		}
	}
	return 0, ""
}

// activeSince is when each result began that is there now.
func activeSince(result promql.Vector, before map[string]time.Duration, now time.Duration) map[string]time.Duration {
	since := map[string]time.Duration{}
	for _, sample := range result {
		labels := sample.Metric.String()
		since[labels] = now
		if began, ok := before[labels]; ok {
			since[labels] = began
		}
	}
	return since
}
