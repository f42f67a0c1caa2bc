package queuetest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryKeepsEveryRule(t *testing.T) {
	RunInBubble(t, func(t *testing.T) Subject { return Of(t, &Memory{}) })
}
