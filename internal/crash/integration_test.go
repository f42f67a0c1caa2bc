//go:build unix

package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/internal/sim"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
)

const postgresURL = "INTEGRATIONS_POSTGRES_URL"

func TestIntegrationKilledWhileDelivering(t *testing.T) {
	killAtEachPoint(t, "PostgreSQL", schema(servertest.Env(t, postgresURL)), 1)
}

func TestIntegrationTwoProcessesOnOneServerOneOfThemKilled(t *testing.T) {
	killAtEachPoint(t, "PostgreSQL, two processes", schema(servertest.Env(t, postgresURL)), 2)
}

// schema makes names of queues at a server, each of a schema that is dropped in
// the end.
func schema(url string) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		name := fmt.Sprintf("crash_%d", rand.Uint32())
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			c, err := pgx.Connect(ctx, url)
			require.NoError(t, err)
			defer c.Close(ctx)
			_, err = c.Exec(ctx, "drop schema if exists "+name+" cascade")
			require.NoError(t, err)
		})
		return url + "#" + name
	}
}

// TestIntegrationTheServerGoesDownWhileDelivering kills one of the server's
// processes, upon which PostgreSQL ends all others, lets nobody in, and recovers
// from its log; every other time the worker is killed with it. queue/postgres has
// the test in which a whole server is killed and started again, under a load of
// jobs.
func TestIntegrationTheServerGoesDownWhileDelivering(t *testing.T) {
	servertest.Env(t, postgresURL) // or there is no PostgreSQL here
	url := ownServer(t)
	kills := max(killsFrom(t), 4)
	for _, p := range policies {
		t.Run(string(p), func(t *testing.T) {
			where := schema(url)(t)
			provider := sendgridsim.New(sendgridsim.Config{Key: "SG.k"})
			defer provider.Close()
			var ids []string
			for range kills + 1 { // one round is left at the last kill
				ids = append(ids, enqueue(t, where, provider.URL, p)...)
			}
			provider.Always(sim.Step{Delay: slow})
			children := []*process{round{queue: where}.start(t, provider.URL, "", 0)}
			for n := range kills {
				require.Eventually(t, func() bool { return provider.Mails.Len() > n*mails+mails/2 }, 30*time.Second, time.Millisecond)
				kill(t, url)
				if n%2 == 1 {
					require.NoError(t, children[0].Process.Kill())
					require.Error(t, children[0].Wait())
					children = slices.Insert(children, 0, round{queue: where}.start(t, provider.URL, "", 0))
				}
			}
			require.NoError(t, children[0].Wait())
			o := account(t, where, provider, ids)
			o.inFlight = inFlight(o.unsettled, children...)
			assert.LessOrEqual(t, len(o.inFlight), kills*workers)
			o.check(t, p)
			row(t, "PostgreSQL, killed too", p, "at any moment", kills, o)
		})
	}
}

// ownServer starts a PostgreSQL that nobody else uses.
func ownServer(t *testing.T) (url string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "crash-postgres-") //nolint:usetesting // the server is another user, who may not enter the test's folder
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	servers := func(verb string) string {
		cmd := exec.Command("../../scripts/servers", verb, "postgres")
		cmd.Env = append(os.Environ(), "SERVERS_DIR="+dir, "POSTGRES_PORT="+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	said := servers("up")
	t.Cleanup(func() { servers("down") })
	_, url, _ = strings.Cut(servers("env"), postgresURL+"=")
	require.NotEmpty(t, url, said)
	return strings.Trim(strings.TrimSpace(url), "'")
}

// kill kills the process of the server that a connection of ours has, as soon
// as there is one.
func kill(t *testing.T, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return false
		}
		defer c.Close(t.Context())
		var pid int
		if err := c.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
			return false
		}
		return syscall.Kill(pid, syscall.SIGKILL) == nil && c.Ping(t.Context()) != nil
	}, 30*time.Second, 10*time.Millisecond)
}
