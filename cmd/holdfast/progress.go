package main

import (
	"fmt"
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a long command is: a bar on a terminal, and plain lines
// at each tenth elsewhere.
type progress struct {
	out  io.Writer
	name string

	estimated bool // totals are, and may change

	bars  *mpb.Progress // nil without a terminal
	bar   *mpb.Bar
	tenth int
}

func newProgress(out io.Writer, name string) *progress {
	p := &progress{out: out, name: name}
	if f, ok := out.(*os.File); ok && terminalWidth(f) > 0 {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(60))
	}
	return p
}

// terminalWidth is 0 for what is no terminal, or one that does not know its size.
func terminalWidth(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// update is called with rising values of done, by one goroutine at a time.
func (p *progress) update(done, total int) {
	if p.bars == nil {
		if tenth := done * 10 / max(total, 1); tenth > p.tenth {
			p.tenth = tenth
			fmt.Fprintf(p.out, "   %s: %d of %d (%d%%)\n", p.name, done, total, 10*tenth)
		}
		return
	}
	if p.bar == nil {
		whole := int64(total) // stays, unless it is 0
		if p.estimated {
			whole = 0
		}
		p.bar = p.bars.AddBar(whole,
			mpb.PrependDecorators(decor.Name("   "+p.name+" "), decor.CountersNoUnit("%d / %d")),
			mpb.AppendDecorators(decor.AverageSpeed(0, "%.0f/s")))
	}
	if p.estimated {
		p.bar.SetTotal(int64(total), false)
	}
	p.bar.SetCurrent(int64(done))
}

// say prints a line, above the bar if there is one.
func (p *progress) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...) + "\n"
	if p.bar != nil && p.bar.IsRunning() {
		_, _ = p.bars.Write([]byte(line))
		return
	}
	_, _ = io.WriteString(p.out, line)
}

// done waits until the bar is drawn for the last time.
func (p *progress) done() {
	if p.bar != nil {
		p.bar.Abort(false)
		p.bars.Wait()
	}
}
