package resilienceredis

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAMessageComesBackAsItWasSent(t *testing.T) {
	for _, m := range []message{
		{Version: messageVersion, From: "0a", Provider: "eu/ses.main_2-b", Milliseconds: 1},
		{Version: messageVersion, From: "0a", Provider: "ses"},
	} {
		got, err := parse(m.encode())
		require.NoError(t, err)
		assert.Equal(t, m, got)
	}
}

// Whatever comes, a Warner sees a plausible path and a bounded time.
func FuzzParse(f *testing.F) {
	f.Add(message{Version: messageVersion, From: "0a", Provider: "ses", Milliseconds: 30_000}.encode())
	f.Add(`{"v":1,"from":"a","provider":"../..","ms":9223372036854775807}`)
	f.Add(`{"V":1,"FROM":"a","provider":"a","provider":"b"}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, data string) {
		m, err := parse(data)
		if err != nil {
			return
		}
		assert.Equal(t, messageVersion, m.Version)
		assert.Regexp(t, `^[a-z0-9]{1,64}$`, m.From)
		assert.Regexp(t, `^[a-z0-9._/-]{1,512}$`, m.Provider)
		assert.GreaterOrEqual(t, m.Milliseconds, int64(0))
		assert.LessOrEqual(t, m.Milliseconds, maxOpen.Milliseconds())
		again, err := parse(m.encode())
		require.NoError(t, err)
		assert.Equal(t, m, again)
	})
}
