package secret_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/secret"
)

func TestAValueShowsItselfNowhere(t *testing.T) {
	holder := struct{ Key secret.Value }{secret.NewValue("hush")}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", holder.Key, "holder", holder)
	data, err := json.Marshal(holder)
	require.NoError(t, err)
	shown := []string{log.String(), string(data), fmt.Sprintf("%#v %+v", secret.Literal("hush"), secret.Literal("hush"))}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb+verb, holder, holder.Key))
	}
	assert.NotContains(t, strings.Join(shown, ""), "hush")
	assert.NotContains(t, strings.Join(shown, ""), fmt.Sprintf("%x", "hush"))
	assert.Equal(t, "hush", holder.Key.Reveal())
}

func TestAFileIsReadAnewWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	source := secret.File(path)
	old := time.Now().Add(-time.Hour)
	write := func(name, key string, at time.Time) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(key+"\n"), 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	for _, c := range []struct {
		how, want string
		change    func()
	}{
		{"first", "first", func() { write("key", "first", old) }},
		{"unchanged", "first", func() {}},
		{"written later", "later", func() { write("key", "later", old.Add(time.Second)) }},
		{"of another size", "longer", func() { write("key", "longer", old.Add(time.Second)) }},
		{"replaced by one of the same time and size", "swappe", func() {
			write("new", "swappe", old.Add(time.Second))
			require.NoError(t, os.Rename(filepath.Join(dir, "new"), path))
		}},
		{"just now", "recent", func() { write("key", "recent", time.Now()) }},
		{"twice in one tick", "second", func() {
			info, err := os.Stat(path)
			require.NoError(t, err)
			write("key", "second", info.ModTime())
		}},
	} {
		c.change()
		v, err := source.Secret(t.Context())
		require.NoError(t, err, c.how)
		assert.Equal(t, c.want, v.Reveal(), c.how)
	}
	require.NoError(t, os.Remove(path))
	_, err := source.Secret(t.Context())
	assert.ErrorIs(t, err, os.ErrNotExist, "a secret that was taken away is no secret")
}

func TestAMissingSecretIsAnErrorThatNamesItsSource(t *testing.T) {
	t.Setenv("EMPTY_KEY", "")
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	large := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(large, make([]byte, 64<<10+1), 0o600))
	for want, source := range map[string]secret.Source{
		"literal": secret.Literal(""), "EMPTY_KEY": secret.Env("EMPTY_KEY"), "gone": secret.File("/gone"),
		empty: secret.File(empty), large: secret.File(large),
	} {
		_, err := source.Secret(t.Context())
		assert.ErrorContains(t, err, want)
	}
}

func TestEqualComparesWhatIsHeld(t *testing.T) {
	assert.True(t, secret.NewValue("a").Equal(secret.NewValue("a")))
	assert.False(t, secret.NewValue("a").Equal(secret.NewValue("b")))
}

func TestAFunctionIsASource(t *testing.T) {
	v, err := secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue("vault"), nil }).Secret(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "vault", v.Reveal())
	assert.True(t, secret.NewValue("").IsZero())
	assert.Empty(t, secret.Value{}.Reveal())
}

func ExampleEnv() {
	_ = os.Setenv("MAIL_KEY", "SG.123")
	key, err := secret.Env("MAIL_KEY").Secret(context.Background())
	fmt.Println(key, err, len(key.Reveal()))
	// Output: [redacted] <nil> 6
}
