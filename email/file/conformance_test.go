package file_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/file"
	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/simtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The provider is the file system. What it can't do is hang, throttle, answer
// nonsense or refuse a mail for what is in it.
func TestConformance(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		d := disk{t, filepath.Join(t.TempDir(), "mail")}
		return emailtest.Subject{Sender: file.Sender{Dir: d.dir}, Unset: file.Sender{}, Name: "file", Sent: d.sent, Break: d.breakDown, Heal: d.heal}
	})
}

type disk struct {
	t   *testing.T
	dir string
}

// breakDown puts a file where a folder should be.
func (d disk) breakDown(trouble emailtest.Trouble) bool {
	place, ok := map[emailtest.Trouble]string{emailtest.Unreachable: d.dir, emailtest.ServerError: filepath.Join(d.dir, "new")}[trouble]
	if !ok {
		return false
	}
	require.NoError(d.t, os.MkdirAll(filepath.Dir(place), 0o700))
	if _, err := os.Stat(place); err == nil {
		require.NoError(d.t, os.Rename(place, place+".away"))
	}
	require.NoError(d.t, os.WriteFile(place, nil, 0o600))
	return true
}

func (d disk) heal() {
	for _, place := range []string{d.dir, filepath.Join(d.dir, "new")} {
		info, err := os.Stat(place)
		if err != nil || info.IsDir() {
			continue
		}
		require.NoError(d.t, os.Remove(place))
		if _, err := os.Stat(place + ".away"); err == nil {
			require.NoError(d.t, os.Rename(place+".away", place))
		}
	}
}

// files lists what is in a folder of the maildir.
func files(t *testing.T, dir, sub string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil {
		return nil
	}
	var out []string
	for _, f := range list {
		out = append(out, f.Name())
	}
	return out
}

// sent reads the maildir as a mail client would.
func (d disk) sent() []*email.Message {
	var out []*email.Message
	for _, name := range files(d.t, d.dir, "new") {
		raw, err := os.ReadFile(filepath.Join(d.dir, "new", name))
		require.NoError(d.t, err)
		m, err := sim.ParseMIME(raw)
		require.NoError(d.t, err)
		out = append(out, labelled(simtest.Message(m)))
	}
	if tmp := files(d.t, d.dir, "tmp"); len(tmp) > 0 {
		d.t.Errorf("files were left in tmp: %v", tmp)
	}
	return out
}

// labelled reads tags and metadata back from the fields that carry them.
func labelled(m *email.Message) *email.Message {
	for name, value := range m.Headers {
		if name == "X-Tag" {
			m.Tags = strings.Split(value, ", ")
		}
		if key, ok := strings.CutPrefix(name, "X-Metadata-"); ok {
			if m.Metadata == nil {
				m.Metadata = map[string]string{}
			}
			m.Metadata[strings.ToLower(key)] = value
		}
	}
	slices.Sort(m.Tags)
	return m
}
