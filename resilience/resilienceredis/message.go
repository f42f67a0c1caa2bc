package resilienceredis

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// message is what processes tell each other, as JSON.
type message struct {
	Version  int    `json:"v"`
	From     string `json:"from"`     // the process
	Provider string `json:"provider"` // its path
	// Milliseconds is for how long it is open; left out of what is remembered,
	// where the server knows better.
	Milliseconds int64 `json:"ms,omitempty"`
}

const messageVersion = 1

// The bounds of a message. A longer time is cut to maxOpen.
const (
	maxMessage  = 1024
	maxFrom     = 64
	maxProvider = 512
	maxOpen     = time.Hour
)

func (m message) encode() string {
	b, _ := json.Marshal(m) // strings and numbers can't fail
	return string(b)
}

// parse refuses what none of us has sent, whoever did.
func parse(data string) (message, error) {
	var m message
	if len(data) > maxMessage {
		return m, errors.New("it is too long")
	}
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		return m, errors.New("it is no JSON of ours")
	}
	switch {
	case m.Version != messageVersion:
		return m, errors.New("it is of another version")
	case !plain(m.From, maxFrom, ""):
		return m, errors.New("it doesn't say who sent it")
	case !plain(m.Provider, maxProvider, "._-/"):
		return m, errors.New("it names no provider")
	case m.Milliseconds < 0:
		return m, errors.New("its time is negative")
	}
	m.Milliseconds = min(m.Milliseconds, maxOpen.Milliseconds())
	return m, nil
}

// plain reports whether s is 1 to most of [a-z0-9] and others.
func plain(s string, most int, others string) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(others, r)
	})
}
