package queue

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/smilefactory/integrations/fault"
)

// Keys seal payloads at rest with AES-GCM. A new key is made current under a new
// id while the old one can still be had: jobs name the key that sealed them.
// Payloads from before there were keys stay readable.
type Keys struct {
	// Current is the id of the key that seals, 1 to 64 of [A-Za-z0-9_-].
	Current string
	// Key gives the key of an id: 16, 24 or 32 bytes. An id that isn't known is an
	// error; the job then goes to the dead letters, where a Replay finds it once
	// the key is back. An error of kind fault.Unavailable (a vault that is down)
	// leaves the job to a later attempt.
	Key func(ctx context.Context, id string) ([]byte, error)
}

// The first byte of a stored payload says what follows.
const (
	plain  = 0
	sealed = 1 // the key's id behind its length, nonce, sealed payload
)

func (k *Keys) check() error {
	if k.Current == "" || len(k.Current) > maxName {
		return fmt.Errorf("queue: Keys.Current must have 1 to %d characters", maxName)
	}
	if k.Key == nil {
		return errors.New("queue: Keys.Key is required")
	}
	return nil
}

func (k *Keys) cipher(ctx context.Context, id string) (cipher.AEAD, error) {
	key, err := k.Key(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("queue: get the key %q: %w", id, err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("queue: the key %q: %w", id, err)
	}
	return cipher.NewGCM(block)
}

// bound ties a sealed payload to its job.
func bound(kind, id string) []byte { return []byte(kind + "\x00" + id) }

func (k *Keys) seal(ctx context.Context, kind, id string, payload []byte) ([]byte, error) {
	if k == nil {
		return append([]byte{plain}, payload...), nil
	}
	c, err := k.cipher(ctx, k.Current)
	if err != nil {
		return nil, fault.New(fault.Unavailable, err) // nothing was stored
	}
	out := append([]byte{sealed, byte(len(k.Current))}, k.Current...) //nolint:gosec // checked by check
	nonce := make([]byte, c.NonceSize(), c.NonceSize()+len(payload)+c.Overhead())
	_, _ = rand.Read(nonce) // which never fails
	return append(out, c.Seal(nonce, nonce, payload, bound(kind, id))...), nil
}

var errUnreadable = errors.New("queue: the stored payload makes no sense")

func (k *Keys) open(ctx context.Context, kind, id string, stored []byte) ([]byte, error) {
	switch {
	case len(stored) == 0:
		return nil, errUnreadable
	case stored[0] == plain:
		return stored[1:], nil
	case stored[0] != sealed:
		return nil, fmt.Errorf("%w: version %d", errUnreadable, stored[0])
	case len(stored) < 2 || len(stored) < 2+int(stored[1]):
		return nil, errUnreadable
	case k == nil:
		return nil, errors.New("queue: the payload is sealed, and there are no keys")
	}
	behind := 2 + int(stored[1])
	keyID, rest := string(stored[2:behind]), stored[behind:]
	c, err := k.cipher(ctx, keyID)
	if err != nil {
		return nil, err
	}
	if len(rest) < c.NonceSize() {
		return nil, errUnreadable
	}
	payload, err := c.Open(nil, rest[:c.NonceSize()], rest[c.NonceSize():], bound(kind, id))
	if err != nil {
		return nil, fmt.Errorf("queue: the key %q doesn't open the payload", keyID)
	}
	return payload, nil
}
