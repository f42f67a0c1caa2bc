package emailsql

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// row is what an idempotency key becomes in the table: the name of its row, and
// the key that seals the receipt in it. Neither tells the other, or the
// idempotency key (HKDF, RFC 5869).
type row struct {
	id   []byte
	aead cipher.AEAD
}

func rowOf(key string) (r row, err error) {
	if r.id, err = hkdf.Key(sha256.New, []byte(key), nil, "emailsql: row", sha256.Size); err != nil {
		return row{}, err
	}
	secret, err := hkdf.Key(sha256.New, []byte(key), nil, "emailsql: receipt", 32)
	if err != nil {
		return row{}, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return row{}, err
	}
	r.aead, err = cipher.NewGCMWithRandomNonce(block)
	return r, err
}

func (r row) seal(receipt *email.Receipt) []byte {
	data, _ := json.Marshal(receipt)        // texts and numbers, which never fails
	return r.aead.Seal(nil, nil, data, nil) //nolint:gosec // this AEAD makes its nonces itself
}

var errUnreadable = errors.New("emailsql: the stored receipt can't be read")

// unseal reads a receipt. One that can't be read doesn't let the mail go again.
func (r row) unseal(sealed []byte) (*email.Receipt, error) {
	data, err := r.aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, fault.New(fault.Unavailable, errUnreadable)
	}
	var receipt email.Receipt
	if err := json.Unmarshal(data, &receipt); err != nil {
		return nil, fault.New(fault.Unavailable, errUnreadable)
	}
	return &receipt, nil
}
