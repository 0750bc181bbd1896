package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// dashboard is what is drawn of Grafana's model of one.
type dashboard struct {
	Title  string  `json:"title"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID      int      `json:"id"`
	Type    string   `json:"type"` // row, timeseries or stat
	Title   string   `json:"title"`
	GridPos grid     `json:"gridPos"`
	Targets []target `json:"targets"`
	Options struct {
		TextMode string `json:"textMode"` // of single values: whether their names are shown
	} `json:"options"`
	Fields struct {
		Defaults struct {
			Unit       string `json:"unit"`
			NoValue    string `json:"noValue"`
			Thresholds struct {
				Steps []threshold `json:"steps"`
			} `json:"thresholds"`
			Custom struct {
				Stacking struct {
					Mode string `json:"mode"`
				} `json:"stacking"`
			} `json:"custom"`
		} `json:"defaults"`
		Overrides []override `json:"overrides"`
	} `json:"fieldConfig"`
}

// grid is where a panel is, in columns, of which there are 24, and rows from the top.
type grid struct {
	H, W, X, Y int
}

type target struct {
	Expr   string `json:"expr"`
	Legend string `json:"legendFormat"`
}

// threshold is the colour from a value on; the first one has no value.
type threshold struct {
	Value *float64 `json:"value"`
	Color string   `json:"color"`
}

// override gives the line with a name a colour of its own.
type override struct {
	Matcher struct {
		Options string `json:"options"`
	} `json:"matcher"`
	Properties []struct {
		ID    string `json:"id"`
		Value struct {
			FixedColor string `json:"fixedColor"`
		} `json:"value"`
	} `json:"properties"`
}

func readDashboard(name string) (d dashboard, err error) {
	file, err := os.ReadFile(name)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(file, &d); err != nil {
		return d, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// colorOf is the name of the colour that the panel gives a line, or nothing.
func (p *panel) colorOf(line string) string {
	for _, o := range p.Fields.Overrides {
		if o.Matcher.Options == line && len(o.Properties) > 0 {
			return o.Properties[0].Value.FixedColor
		}
	}
	return ""
}

// reached is the name of the colour of a single value.
func (p *panel) reached(value float64) string {
	name := "text"
	for _, s := range p.Fields.Defaults.Thresholds.Steps {
		if s.Value == nil || value >= *s.Value {
			name = s.Color
		}
	}
	return name
}
