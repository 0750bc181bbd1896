package bench

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	chartWidth, chartHeight = 34 * vg.Centimeter, 13 * vg.Centimeter
	barsWidth               = 15 * vg.Centimeter
	legendWidth             = 5 * vg.Centimeter
	margin                  = 4 * vg.Millimeter
	// A viewer without the font of the chart takes another one, up to a fifth wider.
	slack = 7 * vg.Millimeter
)

// WriteCharts writes one SVG for each workload into a folder: purchases a second
// as bars, and how long they took as curves. They can be told apart in black and
// white. The workload idle has nothing to compare.
func WriteCharts(dir string, figures []Figures) error {
	figures = slices.DeleteFunc(slices.Clone(figures), func(f Figures) bool { return f.HeldProducts > 0 })
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var failures error
	for len(figures) > 0 {
		workload := figures[0].Workload
		n := slices.IndexFunc(figures, func(f Figures) bool { return f.Workload != workload })
		if n < 0 {
			n = len(figures)
		}
		if err := writeChart(filepath.Join(dir, workload+".svg"), figures[:n]); err != nil {
			failures = errors.Join(failures, fmt.Errorf("chart of %s: %w", workload, err))
		}
		figures = figures[n:]
	}
	return failures
}

func writeChart(path string, figures []Figures) error {
	bars, err := barChart(figures)
	if err != nil {
		return err
	}
	curves, legend, err := latencyChart(figures)
	if err != nil {
		return err
	}
	canvas := vgsvg.New(chartWidth, chartHeight)
	page := draw.New(canvas)
	bars.Draw(draw.Crop(page, margin, barsWidth-chartWidth, margin, -margin))
	curves.Draw(draw.Crop(page, barsWidth+margin, -legendWidth, margin, -margin))
	legend.Draw(draw.Crop(page, chartWidth-legendWidth+margin, 0, margin, -margin-slack))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(file)
	return errors.Join(err, file.Close())
}

// barChart has a bar for each strategy, from the top down. The scale is
// logarithmic: the ceiling is hundreds of times what a row lock sells.
func barChart(figures []Figures) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = figures[0].Workload + ": purchases per second"
	p.X.Label.Text = "purchases/s, logarithmic; whiskers: all repetitions"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
	names := make([]string, len(figures))
	highest := 10.0
	for i, f := range figures {
		names[len(names)-1-i] = f.Strategy
		highest = max(highest, f.HighestPerSecond)
	}
	p.Add(bars{figures})
	p.NominalY(names...)
	p.Y.Padding = slack
	// Room for the number behind the longest bar.
	p.X.Min, p.X.Max = 1, math.Pow(10, math.Ceil(math.Log10(highest)))*4
	p.Y.Min, p.Y.Max = -0.6, float64(len(figures))-0.4
	return p, nil
}

// decades are the ticks of a logarithmic scale that are worth a number.
type decades struct{}

// Ticks implements plot.Ticker.
func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for value := math.Pow(10, math.Floor(math.Log10(low))); value <= high; value *= 10 {
		label := strconv.FormatFloat(value, 'f', -1, 64)
		if value >= 1000 {
			label = strconv.FormatFloat(value/1000, 'f', -1, 64) + "k"
		}
		ticks = append(ticks, plot.Tick{Value: value, Label: label})
		for n := 2.0; n < 10; n++ {
			ticks = append(ticks, plot.Tick{Value: n * value})
		}
	}
	return ticks
}

// bars draws horizontal bars with a number behind each.
type bars struct{ figures []Figures }

// How a family of strategies is filled: what people do today, holdfast, and the
// ceiling.
func fillOf(strategy string) (fill color.Color, hatched bool) {
	all := allContenders()
	i := slices.IndexFunc(all, func(c contender) bool { return c.name == strategy })
	switch {
	case i >= 0 && all[i].owner == holdfast:
		return color.Gray{Y: 70}, false
	case i >= 0 && all[i].owner == unguarded:
		return color.White, false
	}
	return color.Gray{Y: 225}, true
}

// Plot implements plot.Plotter.
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	half := (y(1) - y(0)) * 0.35
	thin := draw.LineStyle{Color: color.Black, Width: vg.Points(0.5)}
	label := p.X.Tick.Label
	label.XAlign, label.YAlign = text.XLeft, text.YCenter
	for i, f := range b.figures {
		middle := y(float64(len(b.figures) - 1 - i))
		if f.PurchasesPerSecond >= 1 {
			box := vg.Rectangle{
				Min: vg.Point{X: x(p.X.Min), Y: middle - half}, Max: vg.Point{X: x(f.PurchasesPerSecond), Y: middle + half},
			}
			fillBox(&c, box, f.Strategy)
			low, high := x(max(1, f.LowestPerSecond)), x(f.HighestPerSecond)
			whisker := draw.LineStyle{Color: color.Gray{Y: 120}, Width: vg.Points(1.5)}
			c.StrokeLine2(whisker, low, middle, high, middle)
		}
		end := x(max(1, f.HighestPerSecond)) + vg.Points(4)
		c.FillText(label, vg.Point{X: end, Y: middle}, fmt.Sprintf("%.0f", f.PurchasesPerSecond))
	}
	c.StrokeLine2(thin, x(p.X.Min), c.Min.Y, x(p.X.Min), c.Max.Y)
}

func fillBox(c *draw.Canvas, box vg.Rectangle, strategy string) {
	corners := []vg.Point{box.Min, {X: box.Max.X, Y: box.Min.Y}, box.Max, {X: box.Min.X, Y: box.Max.Y}}
	fill, hatched := fillOf(strategy)
	c.FillPolygon(fill, corners)
	thin := draw.LineStyle{Color: color.Black, Width: vg.Points(0.5)}
	height := box.Max.Y - box.Min.Y
	for x := box.Min.X - height; hatched && x < box.Max.X; x += vg.Points(4) {
		// A diagonal, cut off at both ends of the box.
		from, to := max(0, box.Min.X-x), min(height, box.Max.X-x)
		c.StrokeLine2(thin, x+from, box.Min.Y+from, x+to, box.Min.Y+to)
	}
	c.StrokeLines(thin, append(corners, corners[0]))
}

// latencyChart has a curve for each strategy that sold anything. Its percentiles
// are spread so that each nine of them takes the same room. The legend stands beside it.
func latencyChart(figures []Figures) (p *plot.Plot, legend plot.Legend, err error) {
	p, legend = plot.New(), plot.NewLegend()
	p.Title.Text = figures[0].Workload + ": latency"
	p.X.Label.Text = "percentile"
	p.Y.Label.Text = "ms, logarithmic"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	p.X.Tick.Marker = percentiles
	legend.Top, legend.Left = true, true
	legend.TextStyle.Font.Size = vg.Points(9)
	legend.Padding, legend.ThumbnailWidth = vg.Points(5), vg.Points(36)
	p.Add(plotter.NewGrid())
	lowest, highest := math.Inf(1), 1.0
	for i, f := range figures {
		if f.P50 <= 0 {
			continue
		}
		points := make(plotter.XYs, len(f.Curve))
		for n, point := range f.Curve {
			points[n] = plotter.XY{X: nines(point.Percentile), Y: max(0.001, point.Milliseconds)}
			lowest, highest = min(lowest, points[n].Y), max(highest, points[n].Y)
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, legend, err
		}
		line.LineStyle, marks.GlyphStyle = strokeOf(i, f.Strategy)
		p.Add(line, marks)
		legend.Add(f.Strategy, line, marks)
	}
	p.X.Min, p.X.Max = 0, 3.05
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(min(lowest, 1)))), highest*2
	return p, legend, nil
}

// nines counts the nines of a percentile: 90 is 1, 99 is 2, 99.9 is 3.
func nines(percentile float64) float64 { return -math.Log10(1 - percentile/100) }

var percentiles = plot.ConstantTicks{
	{Value: 0, Label: "0"},
	{Value: nines(50), Label: "50"},
	{Value: nines(90), Label: "90"},
	{Value: nines(99), Label: "99"},
	{Value: nines(99.9), Label: "99.9"},
}

// strokeOf tells curves apart by dashes and marks: holdfast's are drawn through,
// the others dashed.
func strokeOf(i int, strategy string) (draw.LineStyle, draw.GlyphStyle) {
	marks := []draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.BoxGlyph{},
		draw.PyramidGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}, draw.PlusGlyph{},
	}
	dashes := [][]vg.Length{
		{vg.Points(6), vg.Points(2)}, {vg.Points(2), vg.Points(2)}, {vg.Points(8), vg.Points(2), vg.Points(1), vg.Points(2)},
	}
	line := draw.LineStyle{Color: color.Gray{Y: 90}, Width: vg.Points(1), Dashes: dashes[i%len(dashes)]}
	if _, hatched := fillOf(strategy); !hatched {
		line.Color, line.Width, line.Dashes = color.Black, vg.Points(1.5), nil
	}
	if strategy == ceiling {
		line.Dashes = []vg.Length{vg.Points(1), vg.Points(3)}
	}
	return line, draw.GlyphStyle{Color: line.Color, Radius: vg.Points(2.5), Shape: marks[i%len(marks)]}
}
