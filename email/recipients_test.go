package email_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/postmark"
	"github.com/smilefactory/integrations/email/resend"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/email/smtp"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	postmarksim "github.com/smilefactory/integrations/internal/sim/postmark"
	resendsim "github.com/smilefactory/integrations/internal/sim/resend"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	smtpsim "github.com/smilefactory/integrations/internal/sim/smtp"
	"github.com/smilefactory/integrations/queue/queuetest"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

// wires are all providers, each at a simulator.
type wires struct {
	sendgrid *sendgridsim.Sim
	ses      *sessim.Sim
	postmark *postmarksim.Sim
	resend   *resendsim.Sim
	smtp     *smtpsim.Sim
	senders  map[string]email.Sender
}

func wire(t *testing.T, server smtpsim.Config) *wires {
	t.Helper()
	server.NoTLS = true
	w := &wires{
		sendgridsim.New(sendgridsim.Config{Key: "SG.key"}), sessim.New(sessim.Config{AccessKeyID: "AKEXAMPLE"}),
		postmarksim.New(postmarksim.Config{Token: "pm-test"}), resendsim.New(resendsim.Config{Key: "re_test"}), smtpsim.New(server), nil,
	}
	for _, stop := range []func(){w.sendgrid.Close, w.ses.Close, w.postmark.Close, w.resend.Close, w.smtp.Close} {
		t.Cleanup(stop)
	}
	cfg := aws.Config{Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKEXAMPLE", "secret", ""), HTTPClient: w.ses.Client()}
	relay, err := smtp.New(smtp.Config{Addr: w.smtp.Addr, TLS: smtp.Plaintext})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, relay.Close()) })
	w.senders = map[string]email.Sender{
		"sendgrid": sendgrid.Sender{Key: secret.Literal("SG.key"), BaseURL: w.sendgrid.URL, HTTPClient: w.sendgrid.Client()},
		"ses":      ses.New(cfg, ses.WithBaseURL(w.ses.URL)),
		"postmark": postmark.Sender{Token: secret.Literal("pm-test"), BaseURL: w.postmark.URL, HTTPClient: w.postmark.Client()},
		"resend":   resend.Sender{Key: secret.Literal("re_test"), BaseURL: w.resend.URL, HTTPClient: w.resend.Client()},
		"smtp":     relay,
	}
	return w
}

// client asks these providers, one after the other, once each.
func (w *wires) client(t *testing.T, names []string, options ...email.Option) *email.Client {
	t.Helper()
	p := resilience.Default
	p.Retries, p.Breaker, p.Timeout, p.Total = 0, resilience.Breaker{}, time.Minute, 2*time.Minute // on a machine that is busy
	options = append(options, email.WithPolicy(p))
	for _, n := range names[1:] {
		options = append(options, email.WithBackup(w.senders[n]))
	}
	c, err := email.New(w.senders[names[0]], options...)
	require.NoError(t, err)
	return c
}

// asked is how often each provider was asked, and got says how often each
// recipient got a mail, from whomever.
func (w *wires) asked() map[string]int {
	all := map[string]int{
		"sendgrid": w.sendgrid.Requests(), "ses": w.ses.Requests(), "postmark": w.postmark.Requests(), "resend": w.resend.Requests(),
		"smtp": w.smtp.Connections(),
	}
	for name, n := range all {
		if n == 0 {
			delete(all, name)
		}
	}
	return all
}

func (w *wires) got() map[string]int {
	all := map[string]int{}
	for _, m := range slices.Concat(w.sendgrid.Mails.All(), w.ses.Mails.All(), w.postmark.Mails.All(), w.resend.Mails.All()) {
		for _, a := range slices.Concat(m.To, m.Cc, m.Bcc) {
			all[a.Address]++
		}
	}
	for _, m := range w.smtp.Mails.All() {
		for _, a := range m.Recipients {
			all[a]++
		}
	}
	return all
}

// circular is a mail to that many.
func circular(n int) *email.Message {
	m := hello()
	m.To = nil
	for i := range n {
		m.To = append(m.To, email.Address{Address: fmt.Sprintf("reader-%d@example.org", i)})
	}
	return m
}

// once is what n recipients got, but for some of them.
func once(n int, but ...string) map[string]int {
	all := map[string]int{}
	for _, a := range circular(n).To {
		if !slices.Contains(but, a.Address) {
			all[a.Address] = 1
		}
	}
	return all
}

const second = "reader-1@example.org"

// A Sender takes a mail for all whom it doesn't refuse for good, or for nobody:
// so whoever has accepted is never sent it again by a retry or a backup.
func TestNobodyWhoseMailWasAcceptedGetsItAgain(t *testing.T) {
	for name, c := range map[string]struct {
		providers []string
		prepare   func(*wires)
		taker     string
		refused   bool // the second recipient
		asked     map[string]int
	}{
		"SMTP refuses one for good": {
			[]string{"smtp", "sendgrid"},
			func(w *wires) { w.smtp.Next(smtpsim.Step{At: "RCPT", For: second, Reply: "550 5.1.1 no such user"}) },
			"smtp", true,
			map[string]int{"smtp": 1},
		},
		"SMTP refuses one for a while": {
			[]string{"smtp", "sendgrid"},
			func(w *wires) { w.smtp.Next(smtpsim.Step{At: "RCPT", For: second, Reply: "450 4.2.1 busy"}) },
			"sendgrid", false,
			map[string]int{"smtp": 1, "sendgrid": 1},
		},
		"SMTP refuses one for good and one for a while": {
			[]string{"smtp", "sendgrid"},
			func(w *wires) {
				w.smtp.Next(smtpsim.Step{At: "RCPT", For: second, Reply: "550 5.1.1 no such user"}, smtpsim.Step{At: "RCPT", For: "reader-2", Reply: "451 4.3.0 later"})
			},
			"sendgrid", false,
			map[string]int{"smtp": 1, "sendgrid": 1},
		},
		"SMTP takes fewer recipients": {
			[]string{"smtp", "sendgrid"},
			func(w *wires) {
				w.smtp.Next(smtpsim.Step{At: "RCPT", For: "reader-2", Reply: "452 4.5.3 too many recipients"})
			},
			"sendgrid", false,
			map[string]int{"smtp": 1, "sendgrid": 1},
		},
		"SMTP refuses the message after it took some": {
			[]string{"smtp", "sendgrid"},
			func(w *wires) {
				w.smtp.Next(smtpsim.Step{At: "RCPT", For: second, Reply: "550 5.1.1 no such user"}, smtpsim.Step{At: smtpsim.End, Reply: "451 4.3.0 later"})
			},
			"sendgrid", false,
			map[string]int{"smtp": 1, "sendgrid": 1},
		},
		"Postmark has one on its suppression list": {
			[]string{"postmark", "ses"},
			func(w *wires) { w.postmark.Suppress(second) },
			"postmark", true,
			map[string]int{"postmark": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := wire(t, smtpsim.Config{})
			c.prepare(w)
			r, err := w.client(t, c.providers).Send(t.Context(), circular(4))
			require.NoError(t, err)
			assert.Equal(t, c.taker, r.Provider)
			assert.Equal(t, c.asked, w.asked())
			want := once(4)
			if c.refused {
				assert.Equal(t, email.StatusRefused, r.Recipients[1].Status)
				want = once(4, second)
			}
			assert.Equal(t, want, w.got())
		})
	}
}

// The same over the queue, whose job is the whole mail.
func TestAQueuedMailThatWasRefusedForAWhileReachesEachRecipientOnce(t *testing.T) {
	w := wire(t, smtpsim.Config{})
	q := queuetest.New()
	c := w.client(t, []string{"smtp"}, email.WithQueue(q))
	w.smtp.Next(smtpsim.Step{At: "RCPT", For: second, Reply: "450 4.2.1 busy"}, smtpsim.Step{At: "RCPT", For: "reader-2", Reply: "550 5.1.1 no such user"})
	r, err := c.Send(t.Context(), circular(4))
	require.NoError(t, err)
	assert.Equal(t, email.StatusQueued, r.Status)
	assert.Empty(t, w.got())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stop := make(chan error, 1)
	go func() { stop <- c.Run(ctx) }()
	require.Eventually(t, func() bool { s, err := q.Stats(ctx); return err == nil && s.Waiting+s.Ready+s.Running == 0 }, 20*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-stop)
	assert.Equal(t, once(4, "reader-2@example.org"), w.got())
}

// The limit of each provider is its own: the mail goes to one that can carry it,
// whole, in one request, and the others aren't even asked.
func TestMoreRecipientsThanAProviderTakesGoWholeToOneThatTakesThem(t *testing.T) {
	for _, small := range []string{"ses", "postmark", "resend"} {
		for _, large := range []string{"sendgrid", "smtp"} {
			t.Run(small+", "+large, func(t *testing.T) {
				w := wire(t, smtpsim.Config{})
				r, err := w.client(t, []string{small, large}).Send(t.Context(), circular(51))
				require.NoError(t, err)
				assert.Equal(t, large, r.Provider)
				assert.Len(t, r.Recipients, 51)
				assert.Equal(t, map[string]int{large: 1}, w.asked())
				assert.Equal(t, once(51), w.got())
			})
		}
	}
}

func TestALargerMailThanAProviderTakesGoesToOneThatTakesIt(t *testing.T) {
	w := wire(t, smtpsim.Config{})
	m := circular(2)
	m.Attachments = []email.Attachment{{Name: "report.pdf", ContentType: "application/pdf", Data: make([]byte, 11<<20)}}
	r, err := w.client(t, []string{"postmark", "ses"}).Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, "ses", r.Provider)
	assert.Equal(t, map[string]int{"ses": 1}, w.asked())
}

func TestAServerThatTakesFewerRecipientsGetsNoPartOfTheMail(t *testing.T) {
	w := wire(t, smtpsim.Config{MaxRecipients: 3})
	_, err := w.client(t, []string{"smtp"}).Send(t.Context(), circular(4))
	require.ErrorIs(t, err, fault.Unsupported)
	assert.Empty(t, w.got())
}

// What no provider can carry is an error that says so of each, before anything is
// sent; it isn't worth queueing either.
func TestAMailThatNoProviderCanCarryIsUnsupportedByEachAndAsksNobody(t *testing.T) {
	w := wire(t, smtpsim.Config{})
	q := queuetest.New()
	_, err := w.client(t, []string{"ses", "postmark", "resend"}, email.WithQueue(q)).Send(t.Context(), circular(51))
	require.ErrorIs(t, err, fault.Unsupported)
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Len(t, f.Tried, 3)
	for _, tried := range f.Tried {
		assert.ErrorContains(t, tried, "to: ", "the field is named")
	}
	assert.Empty(t, w.asked())
	s, err := q.Stats(t.Context())
	require.NoError(t, err)
	assert.Zero(t, s)
}

// One that can carry the mail, and is down, is worth waiting for.
func TestAMailThatOnlyAProviderWhoIsDownCanCarryIsQueued(t *testing.T) {
	for _, order := range [][]string{{"sendgrid", "ses"}, {"ses", "sendgrid"}} {
		w := wire(t, smtpsim.Config{})
		w.sendgrid.Always(sim.Step{Status: 503})
		r, err := w.client(t, order, email.WithQueue(queuetest.New())).Send(t.Context(), circular(51))
		require.NoError(t, err, order)
		assert.Equal(t, email.StatusQueued, r.Status)
		assert.Equal(t, map[string]int{"sendgrid": 1}, w.asked())
	}
}

// Invalid is what would be wrong at every provider.
func TestOnlyWhatNobodyCouldCarryIsInvalid(t *testing.T) {
	w := wire(t, smtpsim.Config{})
	c := w.client(t, []string{"ses", "sendgrid", "smtp"})
	_, err := c.Send(t.Context(), circular(1001))
	require.ErrorIs(t, err, fault.Invalid)
	assert.Empty(t, w.asked())
	_, err = c.Send(t.Context(), circular(1000))
	require.NoError(t, err)
	assert.Equal(t, once(1000), w.got())
	assert.Equal(t, map[string]int{"sendgrid": 1}, w.asked())
}
