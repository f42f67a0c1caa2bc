package matrix_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
)

// A process of its own is this test's program, which reads jobs from its standard
// input, a line each, and says in JSON on its standard output what becomes of
// them. It works on many at once.
const childVariable = "MATRIX_CHILD"

// job is an operation that a process performs, for so many callers at once.
type job struct {
	Cell    cell
	Ends    map[string]endpoint
	Vault   string
	Journal string // its URL
	Clock   string // the file that says what time it is
	Callers int
	Heals   bool // the flaw is over
}

// event is what a process says.
type event struct {
	Job     string
	At      bool // the moment has come; it waits for its end
	Answers []answer
}

// child performs jobs until its standard input ends.
func child() {
	stores := &stores{open: map[string]payment.Journal{}}
	var mu sync.Mutex
	say := func(e event) {
		data, _ := json.Marshal(e)
		mu.Lock()
		defer mu.Unlock()
		os.Stdout.Write(append(data, '\n'))
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		var j job
		if err := json.Unmarshal(line, &j); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go j.perform(stores, say)
	}
}

func (j job) perform(all *stores, say func(event)) {
	id := j.Cell.orderID()
	pull := func() {
		say(event{Job: id, At: true})
		if j.Cell.Flaw == stops {
			goesOn := make(chan os.Signal, 1)
			signal.Notify(goesOn, syscall.SIGCONT)
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			<-goesOn // other threads stop first
			return
		}
		select {} // until the kill
	}
	journal, err := all.journal(j.Journal)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	p := newParty(j.Cell, j.Ends, journal, clockIn(j.Clock), j.Cell.pace(), pull)
	if !j.Heals {
		p.set(j.Cell.marking(), true)
	}
	answers := make([]answer, j.Callers)
	var callers sync.WaitGroup
	for i := range answers {
		callers.Go(func() { answers[i] = p.perform(context.Background(), j.Cell.order(id, j.Vault)) })
	}
	callers.Wait()
	_ = p.close()
	say(event{Job: id, Answers: answers})
}

// clockIn is a clock that a file sets.
func clockIn(path string) func() time.Time {
	return func() time.Time {
		data, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		n, err := strconv.ParseInt(string(data), 10, 64)
		if err != nil {
			panic(err)
		}
		return time.Unix(0, n)
	}
}

// stores are the journals that a process has open.
type stores struct {
	mu   sync.Mutex
	open map[string]payment.Journal
}

func (s *stores) journal(url string) (payment.Journal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j, ok := s.open[url]; ok {
		return j, nil
	}
	pool, err := sqldb.Open(context.Background(), url)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(4)
	j, err := paymentsql.Open(context.Background(), pool)
	if err == nil {
		s.open[url] = j
	}
	return j, err
}

// process is one that this one has started.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	err strings.Builder // whole when it has ended

	mu      sync.Mutex
	waiting map[string]chan event // by job
	ended   bool
	done    chan struct{}
}

func start(t testing.TB) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), waiting: map[string]chan event{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childVariable+"=1")
	p.cmd.Stderr = &p.err
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	p.in = in
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go p.listen(out)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && p.err.Len() > 0 {
			t.Log(p.err.String())
		}
	})
	return p
}

func (p *process) listen(out io.Reader) {
	defer close(p.done)
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		p.mu.Lock()
		c := p.waiting[e.Job]
		p.mu.Unlock()
		if c != nil {
			c <- e
		}
	}
	_ = p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for _, c := range p.waiting {
		close(c)
	}
}

// do gives it a job, of which the channel tells; it is closed when the process
// ends.
func (p *process) do(t testing.TB, j job) <-chan event {
	t.Helper()
	c := make(chan event, 4)
	p.mu.Lock()
	if p.ended {
		close(c)
	}
	p.waiting[j.Cell.orderID()] = c
	p.mu.Unlock()
	data, _ := json.Marshal(j)
	_, err := p.in.Write(append(data, '\n'))
	if !errors.Is(err, syscall.EPIPE) {
		require.NoError(t, err)
	}
	return c
}

// kill ends it at once, as nothing else does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
	p.in.Close()
}

// stopped waits until the kernel has stopped it.
func (p *process) stopped(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "stat"))
		_, after, _ := strings.Cut(string(data), ") ")
		return err == nil && strings.HasPrefix(after, "T")
	}, 10*time.Second, time.Millisecond)
}

// answersOf waits for a job's answers; none where the process ended before.
func answersOf(t testing.TB, from <-chan event) []answer {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case e, ok := <-from:
			if !ok {
				return nil
			}
			if len(e.Answers) > 0 {
				return e.Answers
			}
		case <-timeout:
			require.Fail(t, "a process doesn't answer")
		}
	}
}

// job is what a process is told of this cell.
func (r *run) job(callers int) job {
	return job{Cell: r.cell, Ends: r.ends(), Vault: r.vault, Journal: r.url, Clock: r.clockFile, Callers: callers}
}

// advance moves the time of all who take part.
func (r *run) advance(d time.Duration) {
	r.clock.Advance(d)
	r.writeClock()
}

func (r *run) writeClock() {
	if r.clockFile == "" {
		return
	}
	data := strconv.FormatInt(r.clock.Now().UnixNano(), 10)
	require.NoError(r.t, os.WriteFile(r.clockFile+".new", []byte(data), 0o600))
	require.NoError(r.t, os.Rename(r.clockFile+".new", r.clockFile))
}

// longer than any lease.
const leaseOver = 2 * time.Minute

// actKilled lets a process die at the moment of the cell, and another one do what
// is left: after the first one's lease has run out the same is asked again. With
// many callers half of them are in the other process already.
func (r *run) actKilled() came {
	doomed, others := start(r.t), start(r.t)
	r.onPull(doomed.kill)
	from := doomed.do(r.t, r.job(max(r.Callers/2, 1)))
	if e, ok := <-from; ok && !e.At {
		return r.missed(e.Answers)
	}
	doomed.kill()
	j := r.job(max(r.Callers/2, 1))
	j.Heals = true
	r.world.heal()
	rest := others.do(r.t, j)
	r.advance(leaseOver)
	return came{answers: answersOf(r.t, rest), gaveUp: -1}
}

// missed is a cell whose moment didn't come: a look-up that finds nothing, say, is
// not told to the journal. It counts as one without a flaw, of which less is
// known beforehand.
func (r *run) missed(answers []answer) came {
	r.miss = true
	return came{answers: answers, gaveUp: -1, missed: true}
}

// actStopped stops a process before it moves money, and lets it go on when
// another one has taken over and is done.
func (r *run) actStopped() came {
	sleeper := start(r.t)
	from := sleeper.do(r.t, r.job(1))
	e, ok := <-from
	require.True(r.t, ok)
	if !e.At {
		return r.missed(e.Answers)
	}
	sleeper.stopped(r.t)
	r.advance(leaseOver)
	if r.Day {
		r.reconcile()
	}
	p := r.party(func() {})
	o := r.cell.order(r.id, r.vault)
	if r.Day { // a new attempt, if the old one was given up
		o.Try = 1
	}
	a := p.perform(r.t.Context(), o)
	require.NoError(r.t, p.close())
	require.NoError(r.t, sleeper.cmd.Process.Signal(syscall.SIGCONT))
	late := answersOf(r.t, from)
	require.NotEmpty(r.t, late)
	r.sleeper = late[0]
	return came{answers: []answer{a}, gaveUp: -1}
}

// actTogether is many callers, half of them in each of two processes.
func (r *run) actTogether() came {
	var from []<-chan event
	for _, p := range r.crew {
		from = append(from, p.do(r.t, r.job(r.Callers/len(r.crew))))
	}
	out := came{gaveUp: -1}
	for _, c := range from {
		answers := answersOf(r.t, c)
		require.NotEmpty(r.t, answers)
		out.answers = append(out.answers, answers...)
	}
	r.world.heal()
	return out
}
