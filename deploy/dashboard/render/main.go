// Command render draws Grafana's dashboard without Grafana: it asks Prometheus what each panel
// asks, and writes all of them into one picture. So a run can be shown to somebody who has
// neither, and what a panel shows can be looked at before anybody installs it.
//
//	go run ./deploy/dashboard/render --prometheus http://127.0.0.1:9090 --last 10m --out sale.png
//
// It draws rows, time series and single values as Grafana does, as far as this dashboard needs
// them. Variables stand for everything, unless --set gives them a value.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1) //nolint:gocritic // the signals need not be let go of by a process that ends
	}
}

func run(ctx context.Context, args []string) error {
	flags := pflag.NewFlagSet("render", pflag.ContinueOnError)
	file := flags.String("dashboard", "helm/holdfast/files/dashboard.json", "the dashboard")
	url := flags.String("prometheus", "http://127.0.0.1:9090", "URL of Prometheus")
	last := flags.Duration("last", 15*time.Minute, "how much of the past is shown")
	end := flags.String("to", "", "where it ends, as 2006-01-02T15:04:05Z (default now)")
	points := flags.Int("points", 240, "points of a line")
	window := flags.Duration("rate-interval", time.Minute, "what rates are taken over; four times as long as between two scrapes")
	set := flags.StringToString("set", nil, "values of variables, as job=holdfast-worker")
	marks := flags.StringArray("mark", nil, "a line at a time, as 2006-01-02T15:04:05Z=worker killed; repeat for each")
	out := flags.String("out", "dashboard.png", "the picture")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d, err := readDashboard(*file)
	if err != nil {
		return err
	}
	p := prometheus{url: *url, to: time.Now(), points: *points, variables: *set, window: *window}
	if *end != "" {
		if p.to, err = time.Parse(time.RFC3339, *end); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
	}
	p.from = p.to.Add(-*last)
	moments, err := parseMarks(*marks)
	if err != nil {
		return err
	}
	answers := map[int][]line{}
	for _, panel := range d.Panels {
		for _, t := range panel.Targets {
			lines, err := p.ask(ctx, t)
			if err != nil {
				return fmt.Errorf("panel %q: %w", panel.Title, err)
			}
			answers[panel.ID] = append(answers[panel.ID], lines...)
		}
	}
	return draws{d, answers, p.from, p.to, moments}.write(*out)
}

// mark is a moment with a name.
type mark struct {
	at   time.Time
	text string
}

func parseMarks(given []string) (marks []mark, err error) {
	for _, g := range given {
		at, text, _ := strings.Cut(g, "=")
		m := mark{text: text}
		if m.at, err = time.Parse(time.RFC3339, at); err != nil {
			return nil, fmt.Errorf("--mark: %w", err)
		}
		marks = append(marks, m)
	}
	return marks, nil
}
