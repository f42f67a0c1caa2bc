package backlog

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/internal/sim"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/secret"
)

// The simulators run in a process of their own, so that what they keep isn't
// counted as the worker's memory.
const asProviders = "BACKLOG_PROVIDERS"

func TestMain(m *testing.M) {
	if os.Getenv(asProviders) != "" {
		serveProviders(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// providers is that process, as seen from the test.
type providers struct {
	t *testing.T
	addresses
}

// addresses are base URLs.
type addresses struct{ SendGrid, Amazon, Control string }

// ledger is what the providers have taken.
type ledger struct {
	SendGrid, Amazon int // mails
	Requests         int // at both, also those that hung
	Lost, Twice      int // of the mails that were to come
}

// serveProviders serves until in ends.
func serveProviders(in io.Reader, out io.Writer) {
	sg, amazon := sendgridsim.New(sendgridsim.Config{Key: "SG.key"}), sessim.New(sessim.Config{AccessKeyID: "AKEXAMPLE"})
	defer sg.Close()
	defer amazon.Close()
	servers := map[string]*sim.Server{"sendgrid": sg.Server, "amazon": amazon.Server}
	control := http.NewServeMux()
	control.HandleFunc("POST /hang/{who}", func(_ http.ResponseWriter, r *http.Request) {
		servers[r.PathValue("who")].Always(sim.Step{Hang: sim.BeforeActing})
	})
	control.HandleFunc("POST /heal/{who}", func(_ http.ResponseWriter, r *http.Request) { servers[r.PathValue("who")].Heal() })
	control.HandleFunc("GET /ledger/{mails}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("mails"))
		l := ledger{SendGrid: sg.Mails.Len(), Amazon: amazon.Mails.Len(), Requests: sg.Requests() + amazon.Requests()}
		for i := range n {
			switch sg.Mails.Count(mailID(i)) + amazon.Mails.Count(mailID(i)) {
			case 0:
				l.Lost++
			case 1:
			default:
				l.Twice++
			}
		}
		_ = json.NewEncoder(w).Encode(l)
	})
	srv := httptest.NewServer(control)
	defer srv.Close()
	if err := json.NewEncoder(out).Encode(addresses{SendGrid: sg.URL, Amazon: amazon.URL, Control: srv.URL}); err != nil {
		return // the test has gone
	}
	_, _ = io.Copy(io.Discard, in)
}

func startProviders(t *testing.T) *providers {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env, cmd.Stderr = append(os.Environ(), asProviders+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	p := &providers{t: t}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &p.addresses))
	return p
}

func (p *providers) hang(who ...string) { p.each("hang", who) }
func (p *providers) heal(who ...string) { p.each("heal", who) }

func (p *providers) each(what string, who []string) {
	for _, name := range who {
		resp, err := http.Post(p.Control+"/"+what+"/"+name, "", nil)
		require.NoError(p.t, err)
		resp.Body.Close()
		require.Equal(p.t, http.StatusOK, resp.StatusCode)
	}
}

func (p *providers) ledger(mails int) (l ledger) {
	resp, err := http.Get(fmt.Sprintf("%s/ledger/%d", p.Control, mails))
	require.NoError(p.t, err)
	defer resp.Body.Close()
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&l))
	return l
}

// client sends through SendGrid, with Amazon SES behind it. A worker has a
// connection of its own to each: the simulators speak HTTP/1.1.
func (p *providers) client(workers int, options ...email.Option) *email.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, workers
	p.t.Cleanup(transport.CloseIdleConnections)
	h := &http.Client{Transport: transport, Timeout: time.Minute}
	c, err := email.New(
		sendgrid.Sender{Key: secret.Literal("SG.key"), BaseURL: p.SendGrid, HTTPClient: h},
		append([]email.Option{email.WithBackup(ses.New(aws.Config{
			Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKEXAMPLE", "secret", ""), HTTPClient: h,
		}, ses.WithBaseURL(p.Amazon)))}, options...)...)
	require.NoError(p.t, err)
	return c
}
