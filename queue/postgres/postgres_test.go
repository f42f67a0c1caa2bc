package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/postgres"
)

func TestOpenRefusesWhatCanNotBeWithoutAnyIO(t *testing.T) {
	for _, name := range []string{"", "Queue", "1queue", "a-b", `a"b`, "a.b", "a;b", "a b", "é", string(make([]byte, 51))} {
		_, err := postgres.Open(t.Context(), nil, postgres.WithSchema(name))
		require.ErrorIs(t, err, fault.Invalid, "%q", name)
		require.ErrorContains(t, err, "schema")
	}
	_, err := postgres.Open(t.Context(), nil, postgres.WithKeys(queue.Keys{}))
	require.ErrorContains(t, err, "Keys.Current")
}

// PostgreSQL holds no other text, so this is refused before it is asked.
func TestKeysAreUTF8(t *testing.T) {
	for field, j := range map[string]queue.Job{"key": {Kind: "a", Key: "\xff"}, "dedupe_key": {Kind: "a", DedupeKey: "\xff"}} {
		err := j.Validate()
		require.ErrorIs(t, err, fault.Invalid)
		require.ErrorContains(t, err, field)
	}
}
