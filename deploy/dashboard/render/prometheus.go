package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// prometheus is where answers come from, and what of them is asked for.
type prometheus struct {
	url       string
	from, to  time.Time
	points    int
	variables map[string]string
	window    time.Duration // of rates
}

// line is one series of an answer. What is not there is no point, and leaves a gap.
type line struct {
	name   string
	points []point
	step   float64 // seconds between two points
}

type point struct{ at, value float64 } // in seconds since 1970

// last is the newest value of a line, if it was still there at the end.
func (l line) last() float64 { return l.points[len(l.points)-1].value }

// ask asks what a panel asks, over the whole time.
func (p prometheus) ask(ctx context.Context, t target) ([]line, error) {
	step := max(1, p.to.Sub(p.from).Seconds()/float64(p.points))
	query := url.Values{
		"query": {p.fillIn(t.Expr)}, "step": {strconv.FormatFloat(step, 'f', 3, 64)},
		"start": {strconv.FormatInt(p.from.Unix(), 10)}, "end": {strconv.FormatInt(p.to.Unix(), 10)},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/query_range?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Error string `json:"error"`
		Data  struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Values [][2]any          `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	var lines []line
	for _, r := range answer.Data.Result {
		if l := (line{legend(t.Legend, r.Metric), numbers(r.Values), step}); len(l.points) > 0 {
			lines = append(lines, l)
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.name, b.name) })
	return lines, nil
}

var variable = regexp.MustCompile(`\$\{?(\w+)\}?`)

// fillIn gives the variables of a query their values, as Grafana does.
func (p prometheus) fillIn(query string) string {
	return variable.ReplaceAllStringFunc(query, func(name string) string {
		name = strings.Trim(name, "${}")
		if name == "__rate_interval" {
			return strconv.Itoa(int(p.window.Seconds())) + "s"
		}
		if value, ok := p.variables[name]; ok {
			return value
		}
		return ".*"
	})
}

// numbers are the points that have a value.
func numbers(values [][2]any) (points []point) {
	for _, v := range values {
		at, _ := v[0].(float64)
		text, _ := v[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
			points = append(points, point{at, value})
		}
	}
	return points
}

var label = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// legend is the name of a series: the format with the values of its labels.
func legend(format string, labels map[string]string) string {
	return label.ReplaceAllStringFunc(format, func(name string) string { return labels[strings.Trim(name, "{} ")] })
}
