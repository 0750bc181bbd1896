package main

import (
	"math"
	"strconv"

	"gonum.org/v1/plot"
)

// format is a value in the unit of its panel, as short as it can be told.
func format(value float64, unit string) string {
	switch unit {
	case "s":
		return seconds(value)
	case "percentunit":
		return short(value*100) + "%"
	case "bytes":
		return scaled(value, 1024, "B", "KiB", "MiB", "GiB", "TiB")
	case "ops", "reqps", "cps":
		return scaled(value, 1000, "", "k", "M") + "/s"
	}
	return scaled(value, 1000, "", "k", "M", "G")
}

func seconds(value float64) string {
	switch a := math.Abs(value); {
	case a == 0:
		return "0"
	case a < 0.001:
		return short(value*1e6) + "µs"
	case a < 1:
		return short(value*1000) + "ms"
	case a < 120:
		return short(value) + "s"
	case a < 7200:
		return short(value/60) + "min"
	case a < 2*86400:
		return short(value/3600) + "h"
	}
	return short(value/86400) + "d"
}

// scaled is a value in the largest of the units that it has one of.
func scaled(value, base float64, units ...string) string {
	i := 0
	for math.Abs(value) >= base && i+1 < len(units) {
		value, i = value/base, i+1
	}
	if unit := units[i]; len(unit) > 1 {
		return short(value) + " " + unit
	}
	return short(value) + units[i]
}

// short is a number with three digits that matter.
func short(value float64) string {
	if a := math.Abs(value); a >= 100 || a == math.Trunc(a) {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}

// unitTicks are some ticks with their values in a unit.
type unitTicks string

// Ticks implements plot.Ticker.
func (u unitTicks) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	if u == "bytes" {
		step := math.Exp2(math.Ceil(math.Log2((high - low) / 4)))
		for value := math.Ceil(low/step) * step; value <= high; value += step {
			ticks = append(ticks, plot.Tick{Value: value, Label: format(value, string(u))})
		}
		return ticks
	}
	for _, t := range (plot.DefaultTicks{}).Ticks(low, high) {
		if t.Label != "" {
			ticks = append(ticks, plot.Tick{Value: t.Value, Label: format(t.Value, string(u))})
		}
	}
	return ticks
}
