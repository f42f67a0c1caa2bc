package smtp_test

import (
	"context"
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/smtp"
	simulator "github.com/smilefactory/integrations/internal/sim/smtp"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/secret"
)

func TestConformance(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		b := open(t, simulator.Config{}, smtp.Config{TagHeader: simtest.TagHeader, MetadataHeaderPrefix: simtest.MetadataPrefix})
		s := b.way.Subject(b, "smtp", password)
		leave := func() {}
		s.Waits["a free connection"] = emailtest.Wait{Begin: func() { leave = b.occupy(t) }}
		heal := s.Heal
		s.Heal = func() {
			leave()
			heal()
		}
		return s
	})
}

// occupy uses every connection of the pool until it is told to leave them.
func (b *bench) occupy(t *testing.T) (leave func()) {
	t.Helper()
	b.sim.Drop()
	b.sim.Always(simulator.Step{At: "MAIL", Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	before := b.sim.Came("MAIL")
	var wg sync.WaitGroup
	for range 4 { // the default
		wg.Go(func() { _, _ = b.Send(ctx, letter()) })
	}
	require.Eventually(t, func() bool { return b.sim.Came("MAIL") == before+4 }, 5*time.Second, time.Millisecond)
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestConformanceWithoutHeadersForLabels(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		b := open(t, simulator.Config{}, smtp.Config{})
		s := b.way.Subject(b, "smtp", password)
		s.Lacks = append(s.Lacks, emailtest.Tags, emailtest.Metadata)
		s.Waits = nil // the same as above
		return s
	})
}

const user, password = "ada", "pass-word-1"

// bench is a Sender in front of a simulator.
type bench struct {
	*smtp.Sender
	sim *simulator.Sim
	way *simtest.SMTP
}

// open fills in what the configurations need to fit each other.
func open(t *testing.T, server simulator.Config, cfg smtp.Config) *bench {
	t.Helper()
	server.Username, server.Password = user, password
	b := &bench{sim: simulator.New(server)}
	b.way = simtest.NewSMTP(t, b.sim, password)
	if cfg.Addr == "" {
		cfg.Addr = b.sim.Addr
	}
	if cfg.Username == "" {
		cfg.Username, cfg.Password = user, secret.Func(func(ctx context.Context) (secret.Value, error) {
			return secret.NewValue(password), b.way.Credentials.Pass(ctx)
		})
	}
	if cfg.TLSConfig == nil {
		cfg.TLSConfig = &tls.Config{RootCAs: b.sim.Pool, MinVersion: tls.VersionTLS12}
	}
	cfg.Dial = b.way.DialContext
	var err error
	b.Sender, err = smtp.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func decode(m simulator.Mail) *email.Message { return simtest.Labelled(simtest.Message(m.Mail)) }
