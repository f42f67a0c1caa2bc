package cache

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// envelope is an answer as it lies in the Store:
//
//	1 byte   format
//	4 bytes  CRC-32C of what follows
//	8 bytes  when the provider gave it, Unix time in nanoseconds
//	8 bytes  for how long it is fresh, in nanoseconds
//	         the encoded value
//
// Numbers are big endian.
type envelope struct {
	made    time.Time
	life    time.Duration
	payload []byte
}

// format changes with the layout. It is part of the key too, so that processes of
// two versions of this package don't read each other's entries.
const format = 1

const header = 1 + 4 + 8 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seal(e envelope) []byte {
	b := make([]byte, 5, header+len(e.payload))
	b[0] = format
	b = binary.BigEndian.AppendUint64(b, uint64(e.made.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(e.life)) //nolint:gosec // comes back the same way
	b = append(b, e.payload...)
	binary.BigEndian.PutUint32(b[1:], crc32.Checksum(b[5:], castagnoli))
	return b
}

var (
	errFormat   = errors.New("cache: a stored entry is of another format")
	errChecksum = errors.New("cache: a stored entry is damaged")
	errLife     = errors.New("cache: a stored entry has no time to live")
)

func unseal(b []byte) (envelope, error) {
	switch {
	case len(b) < header || b[0] != format:
		return envelope{}, errFormat
	case binary.BigEndian.Uint32(b[1:]) != crc32.Checksum(b[5:], castagnoli):
		return envelope{}, errChecksum
	}
	made := int64(binary.BigEndian.Uint64(b[5:]))          //nolint:gosec // see seal
	life := time.Duration(binary.BigEndian.Uint64(b[13:])) //nolint:gosec // see seal
	if life <= 0 {
		return envelope{}, errLife
	}
	return envelope{time.Unix(0, made), life, b[header:]}, nil
}

// storeKey is the operation's name, for who looks into the Store, and a hash of
// all that makes up the key: arguments may be long, or nobody's business.
func (c *Cache[T]) storeKey(who id) string {
	h := sha256.Sum256([]byte(Key(string(rune(format)), c.config.Version, who.tenant, who.op, who.key)))
	return who.op + ":" + base64.RawURLEncoding.EncodeToString(h[:])
}
