package crash_test

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/internal/sim"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/queue"
)

// round queues mails, lets one of the children die, and lets others finish.
type round struct {
	queue    string // see open
	policy   policy
	point    string
	children int // that work side by side until one is killed
	flaw     string
	again    int
}

const (
	mostAgain = 20

	mails = 40                    // of a round
	slow  = 10 * time.Millisecond // the provider, so that children work side by side
)

func (r round) play(t *testing.T) outcome {
	t.Helper()
	provider := sendgridsim.New(sendgridsim.Config{Key: "SG.k"})
	defer provider.Close()
	ids := enqueue(t, r.queue, provider.URL, r.policy)
	provider.Always(sim.Step{Delay: slow})
	doomed := r.start(t, provider.URL, r.point, 1+rand.IntN(20/r.children))
	var others []*process
	for range r.children - 1 {
		others = append(others, r.start(t, provider.URL, "", 0))
	}
	if err := doomed.Wait(); err == nil && r.children > 1 && r.again < mostAgain {
		// On a busy machine the others may have sent all before it came to its turn. They
		// have emptied the queue then, and the round is played again.
		for _, p := range others {
			require.NoError(t, p.Wait())
		}
		anew := r
		anew.again++
		return anew.play(t)
	}
	require.True(t, doomed.died(), "it was to die there")
	if r.children == 1 {
		others = append(others, r.start(t, provider.URL, "", 0))
	}
	for _, p := range others {
		require.NoError(t, p.Wait())
	}
	o := account(t, r.queue, provider, ids)
	o.inFlight = inFlight(o.unsettled, doomed)
	assert.LessOrEqual(t, len(o.inFlight), workers)
	return o
}

// outcome is what became of the mails of one or several rounds, by their IDs.
type outcome struct {
	mails     int
	lost      []string // neither taken nor listed
	twice     []string
	inFlight  []string // at the kill
	unsettled []string // dead letters
	reasons   []string // of those
}

func (o *outcome) add(p outcome) {
	o.mails += p.mails
	o.lost = append(o.lost, p.lost...)
	o.twice = append(o.twice, p.twice...)
	o.inFlight = append(o.inFlight, p.inFlight...)
	o.unsettled = append(o.unsettled, p.unsettled...)
}

// check holds the outcome of a round against its policy.
func (o *outcome) check(t *testing.T, p policy) {
	t.Helper()
	assert.Empty(t, o.lost, "neither taken by the provider nor listed")
	if p == atMostOnce {
		assert.Empty(t, o.twice)
		assert.Subset(t, o.inFlight, o.unsettled, "only what was in flight can't be known")
		for _, reason := range o.reasons {
			assert.Contains(t, reason, "may have been sent")
		}
		return
	}
	assert.Subset(t, o.inFlight, o.twice, "only what was in flight arrives twice")
	assert.Empty(t, o.unsettled)
}

// account asks the provider and the queue.
func account(t *testing.T, where string, provider *sendgridsim.Sim, ids []string) outcome {
	t.Helper()
	q, err := open(t.Context(), where)
	require.NoError(t, err)
	defer q.Close(t.Context())
	dead, err := q.Dead(t.Context(), "", len(ids))
	require.NoError(t, err)
	o := outcome{mails: len(ids), twice: provider.Mails.Doubled()}
	for _, d := range dead {
		o.unsettled, o.reasons = append(o.unsettled, d.ID), append(o.reasons, d.Reason)
	}
	o.lost = slices.DeleteFunc(provider.Mails.Missing(ids...), func(id string) bool { return slices.Contains(o.unsettled, id) })
	return o
}

func enqueue(t *testing.T, where, url string, p policy) (ids []string) {
	t.Helper()
	q, err := open(t.Context(), where)
	require.NoError(t, err)
	c, err := client(q, url, &death{})
	require.NoError(t, err)
	for n := range mails {
		r, err := c.Send(t.Context(), &email.Message{
			From: email.Address{Address: "shop@example.com"}, To: []email.Address{{Address: fmt.Sprintf("to%d@example.org", n)}},
			Subject: "Order", Text: "Thank you.", AtMostOnce: p == atMostOnce,
		})
		require.NoError(t, err)
		require.Equal(t, email.StatusQueued, r.Status)
		ids = append(ids, r.ID)
	}
	require.NoError(t, q.Close(t.Context()))
	return ids
}

// process is a child.
type process struct {
	*exec.Cmd
	out, err strings.Builder // whole when it has ended
}

// start starts a child; with a point it dies there, at the n-th mail.
func (r round) start(t *testing.T, url, point string, n int) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), "CRASH_QUEUE="+r.queue, "CRASH_URL="+url, "CRASH_POINT="+point, "CRASH_AT="+strconv.Itoa(n), "CRASH_FLAW="+r.flaw)
	p.Stdout, p.Stderr = &p.out, &p.err
	require.NoError(t, p.Start())
	timer := time.AfterFunc(time.Minute, func() { _ = p.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		if t.Failed() && p.err.Len() > 0 {
			t.Log(p.err.String())
		}
	})
	return p
}

// lines yields what it has said, see say.
func (p *process) lines() iter.Seq2[string, string] {
	return func(yield func(what, id string) bool) {
		for line := range strings.Lines(p.out.String()) {
			what, id, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			if !yield(what, id) {
				return
			}
		}
	}
}

func (p *process) died() bool {
	for what := range p.lines() {
		if what == dies {
			return true
		}
	}
	return false
}

// inFlight are the mails that those processes had begun and not settled when they
// or the queue went down, and those they had claimed and not begun: they said
// nothing of them, which are seen where they were listed.
func inFlight(listed []string, all ...*process) []string {
	in, settled := map[string]bool{}, map[string]bool{}
	for _, p := range all {
		begun := map[string]bool{}
		for what, id := range p.lines() {
			switch queue.EventType(what) {
			case begins:
				begun[id] = true
			case queue.StoreFailed, queue.LeaseLost:
				in[id] = true
			case queue.Finished, queue.Retried:
				delete(begun, id)
				settled[id] = true
			case queue.Died:
				delete(begun, id)
			}
		}
		maps.Copy(in, begun)
	}
	for _, id := range listed {
		if !settled[id] {
			in[id] = true
		}
	}
	delete(in, "") // of a claim that failed
	return slices.Sorted(maps.Keys(in))
}
