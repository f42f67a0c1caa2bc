package queuetest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryKeepsEveryRule(t *testing.T) {
	RunInBubble(t, func(t *testing.T) Subject { return Of(t, &Memory{}) })
}

func TestMemoryIsAStore(t *testing.T) {
	RunStore(t, func(*testing.T) queue.Store { return &Memory{} })
}

func TestMemoryKeepsEveryRuleOnTheRealClock(t *testing.T) {
	Run(t, func(t *testing.T) Subject { return Of(t, &Memory{}) })
}
