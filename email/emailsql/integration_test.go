package emailsql_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/internal/sqldbtest"
)

// TestIntegrationPostgresConnectionLostInTheCommit: whoever noted the key is told
// so, though the answer to the commit got lost.
func TestIntegrationPostgresConnectionLostInTheCommit(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	g := sqldbtest.NewGate(t, databaseURL)
	r, _ := open(t, g.URL)
	other, _ := open(t, databaseURL)

	g.LoseNext()
	assert.False(t, ask(t, r, "k", hash, now).Known, "it is the one who sends")
	assert.True(t, ask(t, other, "k", hash, now).Known)

	g.LoseNext()
	assert.True(t, ask(t, r, "k", hash, now.Add(2*stale)).Abandoned, "it is the one who took it over")
	assert.False(t, ask(t, other, "k", hash, now.Add(2*stale)).Abandoned)
}
