package main

import (
	"image/color"

	"gonum.org/v1/plot/plotter"
)

// pieces are the parts of a line between its gaps.
func pieces(l line) (parts []plotter.XYs) {
	for i, p := range l.points {
		if i == 0 || p.at-l.points[i-1].at > 1.5*l.step {
			parts = append(parts, nil)
		}
		last := len(parts) - 1
		parts[last] = append(parts[last], plotter.XY{X: p.at, Y: p.value})
	}
	return parts
}

// stack adds to each line those before it.
func stack(lines []line) []line {
	sums := map[float64]float64{}
	stacked := make([]line, len(lines))
	for i, l := range lines {
		stacked[i] = line{name: l.name, step: l.step}
		for _, p := range l.points {
			sums[p.at] += p.value
			stacked[i].points = append(stacked[i].points, point{p.at, sums[p.at]})
		}
	}
	return stacked
}

var black = color.Gray{Y: 30}

// palette has Grafana's classic colours, darker where they would be lost on white.
var palette = []color.RGBA{
	{R: 86, G: 166, B: 75, A: 255}, {R: 230, G: 171, B: 0, A: 255}, {R: 50, G: 150, B: 200, A: 255},
	{R: 239, G: 132, B: 60, A: 255}, {R: 226, G: 77, B: 66, A: 255}, {R: 31, G: 120, B: 193, A: 255},
	{R: 186, G: 67, B: 169, A: 255}, {R: 112, G: 93, B: 160, A: 255}, {R: 80, G: 134, B: 66, A: 255}, {R: 120, G: 90, B: 20, A: 255},
}

var named = map[string]color.Color{
	"green": palette[0], "orange": palette[3], "red": palette[4], "blue": palette[5], "text": black,
}

func colorNamed(name string) color.Color {
	if c, ok := named[name]; ok {
		return c
	}
	return black
}

// lineColor is the colour of the i-th line of a panel.
func lineColor(p *panel, i int, name string) color.Color {
	if fixed := p.colorOf(name); fixed != "" {
		return colorNamed(fixed)
	}
	return palette[i%len(palette)]
}

// faint is what is below a line.
func faint(c color.Color) color.Color {
	r, g, b, _ := c.RGBA()
	pale := func(v uint32) uint8 { return uint8(255 - (255-v>>8)/3) }
	return color.RGBA{R: pale(r), G: pale(g), B: pale(b), A: 255}
}
