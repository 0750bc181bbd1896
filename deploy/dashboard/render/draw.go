package main

import (
	"errors"
	"image/color"
	"os"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	column, row  = 50, 18 // points, of the grid
	columns      = 24
	headline     = 30 // of the picture
	gap          = 4  // around a panel
	titleHeight  = 14
	legendLine   = 10
	legendLines  = 3
	dotsPerInch  = 96
	smallestText = 7
)

var sans = font.Font{Typeface: "Liberation", Variant: "Sans"}

// draws is all that comes into a picture.
type draws struct {
	dashboard dashboard
	answers   map[int][]line // by the id of the panel
	from, to  time.Time
	marks     []mark
}

// write draws all panels where the dashboard has them, into a PNG.
func (d draws) write(name string) error {
	rows := 0
	for _, p := range d.dashboard.Panels {
		rows = max(rows, p.GridPos.Y+p.GridPos.H)
	}
	canvas := vgimg.NewWith(vgimg.UseWH(columns*column, vg.Length(rows*row+headline)), vgimg.UseDPI(dotsPerInch),
		vgimg.UseBackgroundColor(color.Gray{Y: 244}))
	page := draw.New(canvas)
	when := d.from.UTC().Format("2006-01-02 15:04:05") + " to " + d.to.UTC().Format("15:04:05 UTC")
	write(page, vg.Point{X: 2 * gap, Y: page.Max.Y - headline/2}, 13, black, d.dashboard.Title+"   "+when)
	for i := range d.dashboard.Panels {
		p := &d.dashboard.Panels[i]
		g := p.GridPos
		box := draw.Canvas{Canvas: page, Rectangle: vg.Rectangle{
			Min: vg.Point{X: vg.Length(g.X*column) + gap, Y: page.Max.Y - headline - vg.Length((g.Y+g.H)*row) + gap},
			Max: vg.Point{X: vg.Length((g.X+g.W)*column) - gap, Y: page.Max.Y - headline - vg.Length(g.Y*row)},
		}}
		if err := d.panel(box, p); err != nil {
			return err
		}
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(file)
	return errors.Join(err, file.Close())
}

func (d draws) panel(box draw.Canvas, p *panel) error {
	if p.Type == "row" {
		write(box, vg.Point{X: box.Min.X, Y: box.Min.Y + 6}, 12, black, p.Title)
		return nil
	}
	box.FillPolygon(color.White, []vg.Point{box.Min, {X: box.Max.X, Y: box.Min.Y}, box.Max, {X: box.Min.X, Y: box.Max.Y}})
	write(box, vg.Point{X: box.Min.X + gap, Y: box.Max.Y - titleHeight/2}, 9, black, p.Title)
	inside := draw.Crop(box, gap, -2*gap, gap, -titleHeight)
	lines := d.answers[p.ID]
	switch {
	case p.Type == "stat":
		values(inside, p, lines)
		return nil
	case len(lines) == 0:
		write(inside, middle(inside), 9, color.Gray{Y: 150}, "no data")
		return nil
	}
	drawn, err := d.chart(p, lines)
	if err != nil {
		return err
	}
	below := legends(inside, p, lines)
	drawn.Draw(draw.Crop(inside, 0, 0, vg.Length(below*legendLine)+2, 0))
	return nil
}

// values draws single values: the newest of each line, in the colour that it has reached.
func values(c draw.Canvas, p *panel, lines []line) {
	if len(lines) == 0 {
		none := p.Fields.Defaults.NoValue
		if none == "" {
			none = "no data"
		}
		write(c, middle(c), 12, color.Gray{Y: 150}, none)
		return
	}
	height := (c.Max.Y - c.Min.Y) / vg.Length(len(lines))
	size := min(20, height*0.5)
	for i, l := range lines {
		at := vg.Point{X: c.Min.X + 2*gap, Y: c.Max.Y - height*(vg.Length(i)+0.5)}
		said := format(l.last(), p.Fields.Defaults.Unit)
		if p.Options.TextMode == "value_and_name" {
			said, size = l.name+":  "+said, min(size, 12)
		}
		write(c, at, size, colorNamed(p.reached(l.last())), said)
	}
}

// chart draws the lines of a panel over the time.
func (d draws) chart(p *panel, lines []line) (*plot.Plot, error) {
	drawn := plot.New()
	drawn.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&drawn.X, &drawn.Y} {
		axis.Tick.Label.Font = font.From(sans, smallestText)
		axis.Width, axis.Tick.Width, axis.Tick.Length = 0, vg.Points(0.3), 2
	}
	drawn.X.Tick.Marker = plot.TimeTicks{Format: "15:04:05"}
	drawn.Y.Tick.Marker = unitTicks(p.Fields.Defaults.Unit)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{Y: 230}, color.Gray{Y: 230}
	drawn.Add(grid)
	stacked := p.Fields.Defaults.Custom.Stacking.Mode == "normal"
	shown := lines
	if stacked {
		shown = stack(lines)
	}
	highest := 0.0
	for i := len(shown) - 1; i >= 0; i-- { // what is stacked covers what is above it
		hue := lineColor(p, i, lines[i].name)
		for _, piece := range pieces(shown[i]) {
			curve, err := plotter.NewLine(piece)
			if err != nil {
				return nil, err
			}
			curve.Color, curve.Width = hue, vg.Points(1.1)
			if stacked {
				curve.FillColor = faint(hue)
			}
			drawn.Add(curve)
		}
		for _, at := range shown[i].points {
			highest = max(highest, at.value)
		}
	}
	drawn.Add(markers{d.marks})
	drawn.X.Min, drawn.X.Max = float64(d.from.Unix()), float64(d.to.Unix())
	drawn.Y.Min, drawn.Y.Max = 0, highest*1.08
	if highest == 0 {
		drawn.Y.Max = 1
	}
	return drawn, nil
}

// markers draws a line through a chart at each mark.
type markers struct{ marks []mark }

// Plot implements plot.Plotter.
func (m markers) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	style := draw.LineStyle{Color: colorNamed("orange"), Width: vg.Points(0.8), Dashes: []vg.Length{2, 2}}
	for _, mark := range m.marks {
		at := x(float64(mark.at.Unix()))
		if at < c.Min.X || at > c.Max.X {
			continue
		}
		c.StrokeLine2(style, at, c.Min.Y, at, c.Max.Y)
		write(c, vg.Point{X: at + 1, Y: c.Max.Y - 4}, 6, style.Color, mark.text)
	}
}

// legends draws the names of lines and their newest values below a chart, and returns in how
// many lines of text. What has no room is only counted.
func legends(c draw.Canvas, p *panel, lines []line) int {
	style := textStyle(smallestText, black)
	var places []vg.Point // from the top; y counts lines of text
	x, y := c.Min.X, 0
	for _, l := range lines {
		width := style.Width(legendOf(p, l)) + 16
		if x+width > c.Max.X-20 && x > c.Min.X {
			x, y = c.Min.X, y+1
		}
		places = append(places, vg.Point{X: x, Y: vg.Length(y)})
		x += width
	}
	used := min(y+1, legendLines)
	for i, l := range lines {
		height := c.Min.Y + legendLine*(vg.Length(used)-places[i].Y-0.5)
		if int(places[i].Y) >= used {
			write(c, vg.Point{X: c.Max.X - 14, Y: c.Min.Y + legendLine/2}, smallestText, black, "…")
			break
		}
		swatch := draw.LineStyle{Color: lineColor(p, i, l.name), Width: vg.Points(2)}
		c.StrokeLine2(swatch, places[i].X, height, places[i].X+8, height)
		write(c, vg.Point{X: places[i].X + 10, Y: height}, smallestText, black, legendOf(p, l))
	}
	return used
}

func legendOf(p *panel, l line) string {
	return l.name + " " + format(l.last(), p.Fields.Defaults.Unit)
}

func write(c draw.Canvas, at vg.Point, size vg.Length, hue color.Color, said string) {
	c.FillText(textStyle(size, hue), at, said)
}

func textStyle(size vg.Length, hue color.Color) text.Style {
	return text.Style{
		Color: hue, Font: font.From(sans, size), Handler: plot.DefaultTextHandler, YAlign: text.YCenter,
	}
}

func middle(c draw.Canvas) vg.Point {
	return vg.Point{X: (c.Min.X+c.Max.X)/2 - 20, Y: (c.Min.Y + c.Max.Y) / 2}
}
