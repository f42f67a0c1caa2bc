package postgres_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// server is a PostgreSQL of the test's own, with fsync on, that can be killed.
type server struct {
	programs, data, url string
	as                  *syscall.Credential // it refuses to run as root
	port                int
	cmd                 *exec.Cmd
}

// newServer makes one, or skips the test where PostgreSQL isn't installed.
func newServer(t *testing.T) *server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // Debian keeps them out of PATH
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		t.Skip("PostgreSQL's programs (initdb, postgres) aren't installed here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{programs: filepath.Dir(found[len(found)-1]), port: l.Addr().(*net.TCPAddr).Port}
	require.NoError(t, l.Close())
	s.url = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.port)
	s.data, err = os.MkdirTemp("", "queue-postgres-") //nolint:usetesting // the server is another user, who may not enter the test's folder
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(s.data) })
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		require.NoError(t, err)
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		require.NoError(t, os.Chown(s.data, uid, gid))
	}
	out, err := s.command("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D", s.data).CombinedOutput()
	require.NoError(t, err, "%s", out)
	s.start(t)
	t.Cleanup(func() { s.kill(t) })
	return s
}

func (s *server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.programs, program), args...)
	cmd.Dir = s.data
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

// start waits until it answers: after a kill it has to recover.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = s.command("postgres", "-D", s.data, "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=on", "-c", "synchronous_commit=on")
	require.NoError(t, s.cmd.Start())
	eventually(t, func() bool {
		c, err := pgx.Connect(t.Context(), s.url)
		if err != nil {
			return false
		}
		defer c.Close(t.Context())
		var fsync, commit string
		require.NoError(t, c.QueryRow(t.Context(), "select current_setting('fsync'), current_setting('synchronous_commit')").Scan(&fsync, &commit))
		require.Equal(t, "on/on", fsync+"/"+commit)
		return true
	})
}

// kill ends all its processes by SIGKILL.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	pids := append(children(s.cmd.Process.Pid), s.cmd.Process.Pid)
	for _, pid := range slices.Backward(pids) { // the postmaster first, so that it starts no other
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = s.cmd.Wait()
	s.cmd = nil
}

// children are the processes that one has started, after proc(5).
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); err == nil && ok && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}
