package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
	shown := log.String() + string(data)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb+verb, holder, holder.Key)
	}
	shown += fmt.Sprintf("%#v %+v", secret.Literal("hush"), secret.Literal("hush"))
	assert.NotContains(t, shown, "hush")
	assert.NotContains(t, shown, fmt.Sprintf("%x", "hush"))
	assert.Equal(t, "hush", holder.Key.Reveal())
}

func TestAFileIsReadAnewWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	source := secret.File(path)
	for i, key := range []string{"first", "second"} {
		require.NoError(t, os.WriteFile(path, []byte(key+"\n"), 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(int64(1000+i), 0)))
		v, err := source.Secret(t.Context())
		require.NoError(t, err)
		assert.Equal(t, key, v.Reveal())
	}
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
