package limit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/resilience/internal/limit"
)

// What is given back to a limit in debt pays the debt off.
func TestWhatIsGivenBackInDebtIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.NewLine(1, 10)
		assert.True(t, l.TryTake(time.Now(), 10))
		l.Settle(5)
		assert.Equal(t, 6*time.Second, l.Missing(time.Now(), 1))
		l.Settle(-3)
		assert.Equal(t, 3*time.Second, l.Missing(time.Now(), 1))
	})
}
