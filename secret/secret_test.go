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
	write := func(name, key string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(key+"\n"), 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
	}
	for _, c := range []struct {
		how, want string
		change    func()
	}{
		{"first", "first", func() { write("key", "first") }},
		{"unchanged", "first", func() {}},
		{"of another size", "second", func() { write("key", "second") }},
		{"in place, of the same time and size", "placed", func() { write("key", "placed") }},
		{"replaced by one of the same time and size", "swappe", func() {
			write("new", "swappe")
			require.NoError(t, os.Rename(filepath.Join(dir, "new"), path))
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

func TestAMarkAndLineEndsAreNoPartOfASecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for held, want := range map[string]string{
		"key":             "key",
		"key\n":           "key",
		"key\r\n\r\n":     "key",
		"\ufeffkey\r\n":   "key",
		" a key\t":        " a key\t",
		"-----BEGIN\nk\n": "-----BEGIN\nk",
		"{\r\n\t\"k\":1}": "{\r\n\t\"k\":1}",
	} {
		require.NoError(t, os.WriteFile(path, []byte(held), 0o600))
		t.Setenv("HELD_KEY", held)
		for _, source := range []secret.Source{secret.File(path), secret.Env("HELD_KEY")} {
			v, err := source.Secret(t.Context())
			require.NoError(t, err, "%q", held)
			assert.Equal(t, want, v.Reveal(), "%q", held)
		}
	}
}

func TestWhatIsNotTextIsRefusedAndNotQuoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for held, problem := range map[string]string{
		"hu\x00sh":                    "control characters",
		"\x1b[31mhush":                "control characters",
		"hush\x7f":                    "control characters",
		"h\x00u\x00s\x00":             "control characters",
		"\xff\xfeh\x00u\x00":          "UTF-16",
		"\xfe\xff\x00h\x00u":          "UTF-16",
		"\ufeff\r\n":                  "empty",
		strings.Repeat("h", 64<<10+1): "larger than 65536 bytes",
	} {
		require.NoError(t, os.WriteFile(path, []byte(held), 0o600))
		_, err := secret.File(path).Secret(t.Context())
		require.ErrorContains(t, err, problem)
		require.ErrorContains(t, err, path)
		assert.NotContains(t, err.Error(), "h\x00u")
		assert.NotContains(t, err.Error(), "hush")
	}
}

func TestAContextThatHasEndedReadsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := secret.File("/gone").Secret(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestAMissingSecretIsAnErrorThatNamesItsSource(t *testing.T) {
	t.Setenv("EMPTY_KEY", "")
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for want, source := range map[string]secret.Source{
		"literal": secret.Literal(""), "EMPTY_KEY is empty": secret.Env("EMPTY_KEY"), "UNSET_KEY is not set": secret.Env("UNSET_KEY"),
		"gone": secret.File("/gone"), empty + " is empty": secret.File(empty), dir: secret.File(dir),
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
