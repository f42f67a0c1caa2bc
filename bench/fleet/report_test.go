package fleet

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// recovered is the share of calls that must be answered in every second from the
// one on in which the fleet counts as recovered.
const recovered = 0.99

func second(at time.Duration) int { return int(at / time.Second) }

// most is the most load in a second from one instant to another, the end if it
// isn't given, as a multiple of the normal one.
func (r *result) most(attempts []int, from time.Duration, to ...time.Duration) float64 {
	until := r.end
	if len(to) > 0 {
		until = to[0]
	}
	most := 0
	for _, n := range attempts[second(from):second(until)] {
		most = max(most, n)
	}
	return float64(most) / r.load()
}

func total[N int | time.Duration](by []N, from, to time.Duration) (sum N) {
	for _, n := range by[second(from):second(to)] {
		sum += n
	}
	return sum
}

func (r *result) lost(from, to time.Duration) int {
	return total(r.calls, from, to) - total(r.answered, from, to)
}

// recovery is how long after the provider answered again the fleet had recovered.
func (r *result) recovery() time.Duration {
	last := second(r.slow) - 1
	for i := range second(r.end) {
		if float64(r.answered[i]) < recovered*float64(r.calls[i]) {
			last = max(last, i)
		}
	}
	return time.Duration(last+1)*time.Second - r.slow
}

// table is what docs/fleet.md shows of one trouble.
func (all results) table(tr trouble) string {
	var b strings.Builder
	b.WriteString("| the provider " + string(tr) + " | most load in a second | load while down | answers lost | of them after it was back | full recovery after | a call took while down | and while slow |\n|-|-|-|-|-|-|-|-|\n")
	for _, v := range variants {
		r := all[tr][v.name]
		if r == nil {
			continue
		}
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %s | %s | %.0f s | %s | %s |\n", v.name,
			r.most(r.offered, 0), float64(total(r.offered, r.down, r.slow))/r.load()/(r.slow-r.down).Seconds(),
			thousands(r.lost(0, r.end)), thousands(r.lost(r.slow, r.end)), r.recovery().Seconds(),
			r.latency(r.down, r.slow), r.latency(r.slow, r.well))
	}
	return b.String()
}

// latency is the mean one of calls, answered or not.
func (r *result) latency(from, to time.Duration) string {
	d := total(r.took, from, to) / time.Duration(total(r.calls, from, to))
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// rateRow is the beginning of an outage for processes that make that many calls
// per second; the provider refuses, or hangs.
type rateRow struct {
	rate        float64
	ours, peers [2]*result
}

func rateTable(rows []rateRow) string {
	var b strings.Builder
	b.WriteString("| calls/s of a process | our defaults: it refuses | it hangs | over 10 s | failsafe-go: it refuses | it hangs | over 10 s |\n|-|-|-|-|-|-|-|\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "| %g | %s | %s |\n", row.rate, mostOf(row.ours), mostOf(row.peers))
	}
	return b.String()
}

func mostOf(r [2]*result) string {
	return fmt.Sprintf("%.2f | %.2f | %.2f", r[0].most(r[0].offered, 0), r[1].most(r[1].offered, 0), max(r[0].mostOver(10), r[1].mostOver(10)))
}

// mostOver is the most load over so many seconds that follow one another.
func (r *result) mostOver(n int) float64 {
	most := 0
	for i := range second(r.end) - n + 1 {
		most = max(most, total(r.offered, time.Duration(i)*time.Second, time.Duration(i+n)*time.Second))
	}
	return float64(most) / r.load() / float64(n)
}

const (
	document = "../../docs/fleet.md"
	images   = "../../docs/images/"
)

// write replaces what stands in the document between the comments of that name.
func write(t *testing.T, name, text string) {
	old, err := os.ReadFile(document)
	require.NoError(t, err)
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	place := regexp.MustCompile(`(?s)` + begin + `.*` + end)
	require.True(t, place.Match(old), "%s has no place for %s", document, name)
	fresh := place.ReplaceAllLiteral(old, []byte(begin+text+end))
	require.NoError(t, os.WriteFile(document, fresh, 0o644))
}

func (all results) write(t *testing.T) {
	for tr := range all {
		write(t, string(tr), all.table(tr))
	}
	all.plot(t, "fleet-load.svg", "load at the provider, × the normal", 4.4, false, func(r *result, i int) float64 {
		return float64(r.offered[i]) / r.load()
	})
	all.plot(t, "fleet-success.svg", "share of calls that are answered", 1.02, true, func(r *result, i int) float64 {
		return float64(r.answered[i]) / float64(r.calls[i])
	})
}

// Okabe and Ito's colours, which the colour-blind can tell apart.
var (
	black   = color.RGBA{0, 0, 0, 255}
	orange  = color.RGBA{230, 159, 0, 255}
	white   = color.RGBA{255, 255, 255, 255}
	green   = color.RGBA{0, 158, 115, 255}
	blue    = color.RGBA{0, 114, 178, 255}
	red     = color.RGBA{213, 94, 0, 255}
	purple  = color.RGBA{204, 121, 167, 255}
	grey    = color.RGBA{140, 140, 140, 255}
	downRed = color.RGBA{250, 225, 220, 255}
	slowTan = color.RGBA{252, 245, 215, 255}
)

// styles are in the order of variants; ours lies under the others, and is broad.
var styles = []draw.LineStyle{
	{Color: blue, Width: 3.5},
	{Color: white, Width: 1.2, Dashes: []vg.Length{1, 3}},
	{Color: green, Width: 1.2},
	{Color: purple, Width: 1.2},
	{Color: red, Width: 1.4},
	{Color: orange, Width: 1.2},
	{Color: red, Width: 1.2, Dashes: []vg.Length{4, 3}},
	{Color: grey, Width: 1},
	{Color: black, Width: 1.6, Dashes: []vg.Length{6, 3}},
	{Color: orange, Width: 1.2, Dashes: []vg.Length{1, 3}},
}

// What a plot shows, in seconds, and its measures in points.
const (
	plotFrom, plotTo      = 50, 210
	width, height, legend = 800, 520, 215
)

var sans = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 11}

// plot draws one panel for each trouble, one above the other, and the legend
// beside them.
func (all results) plot(t *testing.T, file, label string, top float64, backups bool, y func(r *result, i int) float64) {
	c := vgsvg.New(width, height)
	d := draw.New(c)
	d.SetColor(white)
	d.Fill(d.Path())
	const half = height / 2
	for i, tr := range []trouble{refuses, hangs} {
		p, names := all.panel(t, tr, label, top, backups, y)
		p.Draw(draw.Crop(d, 8, -legend, half*vg.Length(1-i)+6, -half*vg.Length(i)-6))
		if i == 0 {
			names.Draw(draw.Crop(d, width-legend+12, -4, half, -24))
		}
	}
	var b bytes.Buffer
	_, err := c.WriteTo(&b)
	require.NoError(t, err)
	svg := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	require.Less(t, len(svg), 100_000, file)
	require.NoError(t, os.MkdirAll(images, 0o755))
	require.NoError(t, os.WriteFile(images+file, svg, 0o644))
}

func (all results) panel(t *testing.T, tr trouble, label string, top float64, backups bool, y func(r *result, i int) float64) (*plot.Plot, *plot.Legend) {
	p := plot.New()
	p.Title.Text = "The provider " + string(tr) + " from 60 to 120 s, is slow to 180 s, then well"
	p.X.Label.Text, p.Y.Label.Text = "seconds", label
	p.Title.Padding = 4
	for _, f := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font,
	} {
		*f = sans
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = plotFrom, plotTo, 0, top
	band(t, p, whole.down, whole.slow, top, downRed)
	band(t, p, whole.slow, whole.well, top, slowTan)
	names := plot.NewLegend()
	names.Top, names.Left, names.Padding, names.TextStyle.Font = true, true, 3, sans
	for n, v := range variants {
		if v.backup && !backups {
			continue
		}
		line := line(t, styles[n], func(i int) float64 { return y(all[tr][v.name], i) })
		p.Add(line)
		if styles[n].Color == white { // on ours, with which it agrees
			names.Add(v.name, &plotter.Line{LineStyle: styles[0]}, line)
			continue
		}
		names.Add(v.name, line)
	}
	if !backups {
		limit := line(t, draw.LineStyle{Color: grey, Width: 1, Dashes: []vg.Length{2, 2}}, func(int) float64 { return bound })
		p.Add(limit)
		names.Add(fmt.Sprintf("%g × the normal load", bound), limit)
	}
	return p, &names
}

// line joins the middles of the seconds.
func line(t *testing.T, style draw.LineStyle, y func(i int) float64) *plotter.Line {
	var points plotter.XYs
	for i := plotFrom; i < plotTo; i++ {
		points = append(points, plotter.XY{X: float64(i) + 0.5, Y: y(i)})
	}
	l, err := plotter.NewLine(points)
	require.NoError(t, err)
	l.LineStyle = style
	return l
}

func band(t *testing.T, p *plot.Plot, from, to time.Duration, top float64, fill color.Color) {
	x, y := from.Seconds(), to.Seconds()
	area, err := plotter.NewPolygon(plotter.XYs{{X: x, Y: 0}, {X: x, Y: top}, {X: y, Y: top}, {X: y, Y: 0}})
	require.NoError(t, err)
	area.Color, area.LineStyle.Width = fill, 0
	p.Add(area)
}
