package paypal

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"hash/crc32"
	"math/big"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

const (
	certPath      = "/v1/notifications/certs/"
	certName      = "CERT-360caa42-fca2a594-1d93a270"
	authAlgorithm = "SHA256withRSA"
)

// signer is the key that signs webhooks.
type signer struct {
	key   *rsa.PrivateKey
	root  *x509.Certificate
	chain []byte // PEM, leaf first
}

// newSigner makes one key in a process, since that takes a tenth of a second.
var newSigner = sync.OnceValue(func() signer {
	rootKey, leafKey := newKey(), newKey()
	root := certificate("PayPal simulator CA", rootKey, nil, rootKey)
	leaf := certificate("messageverificationcerts.paypal.com", leafKey, root, rootKey)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...)
	return signer{leafKey, root, chain}
})

const keyBits = 2048

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		panic("paypal: make a key: " + err.Error()) // It doesn't happen with crypto/rand.
	}
	return key
}

// certificate is valid through this century, so that no test clock leaves it. Without a parent it signs itself.
func certificate(name string, key *rsa.PrivateKey, parent *x509.Certificate, by *rsa.PrivateKey) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(crc32.ChecksumIEEE([]byte(name)))), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if parent == nil {
		template.DNSNames, template.IsCA, template.KeyUsage = nil, true, x509.KeyUsageCertSign
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		panic("paypal: make a certificate: " + err.Error())
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		panic("paypal: parse a certificate: " + err.Error())
	}
	return made
}

// Roots is a pool with the root of the certificate that signs webhooks.
func (s *Sim) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.keys.root)
	return pool
}

// certificate serves what cert_url names; it needs no access token.
func (s *Sim) certificate() sim.Reply {
	return sim.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-pem-file"}}, Body: string(s.keys.chain)}
}

func (s *Sim) certURL() string {
	if s.cfg.CertURL != "" {
		return s.cfg.CertURL
	}
	return s.base + certPath + certName
}

// Sign is the header of a notification for a webhook (PayPal's page "Integrate webhooks"). A body or an id that isn't
// PayPal's makes a forgery of it.
func (s *Sim) Sign(webhookID string, body []byte) http.Header {
	s.mu.Lock()
	certURL, now := s.certURL(), s.now()
	s.mu.Unlock()
	return s.SignAt(webhookID, body, now, certURL)
}

// SignAt is Sign with another time, or another cert_url.
func (s *Sim) SignAt(webhookID string, body []byte, at time.Time, certURL string) http.Header {
	id, sent := newID("0123456789abcdef", 8)+"-d67a-11e5-baa3-778b53f4ae55", stamp(at)
	digest := sha256.Sum256(signed(id, sent, webhookID, body))
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.keys.key, crypto.SHA256, digest[:])
	if err != nil {
		panic("paypal: sign: " + err.Error()) // Key and digest fit.
	}
	h := http.Header{}
	h.Set("Paypal-Transmission-Id", id)
	h.Set("Paypal-Transmission-Time", sent)
	h.Set("Paypal-Transmission-Sig", base64.StdEncoding.EncodeToString(sig))
	h.Set("Paypal-Cert-Url", certURL)
	h.Set("Paypal-Auth-Algo", authAlgorithm)
	return h
}

// signed is transmission id, time, webhook id and the CRC-32 of the raw body in decimal (page "Integrate webhooks"; that
// it's decimal is from PayPal's samples).
func signed(id, sent, webhookID string, body []byte) []byte {
	return []byte(id + "|" + sent + "|" + webhookID + "|" + strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10))
}

// verifyShape is verify_webhook_signature of the Webhooks v1 specification.
var verifyShape = recordOf(map[string]shape{
	"auth_algo": needed(shape{kind: aText, max: 100}), "cert_url": needed(shape{kind: aText, max: 500}),
	"transmission_id": needed(shape{kind: aText, max: 50}), "transmission_sig": needed(shape{kind: aText, max: 500}),
	"transmission_time": needed(shape{kind: aText, max: 100}), "webhook_id": needed(shape{kind: aText, max: 50}),
	"webhook_event": needed(shape{}),
})

// verify is verify-webhook-signature.post of the Webhooks v1 specification. The event is taken byte for byte as it stands
// in the request: one that was decoded and encoded again fails (unverified for PayPal, whose pages warn of it).
func (s *Sim) verify(c *call) (answer, *problem) {
	var event struct {
		Raw json.RawMessage `json:"webhook_event"`
	}
	status := "FAILURE"
	if json.Unmarshal(c.raw, &event) == nil && s.genuine(c, event.Raw) {
		status = "SUCCESS"
	}
	return answer{status: http.StatusOK, body: object{"verification_status": status}}, nil
}

func (s *Sim) genuine(c *call, raw []byte) bool {
	body := c.record()
	sig, err := base64.StdEncoding.DecodeString(text(body, "transmission_sig"))
	if _, p := s.hook(c, text(body, "webhook_id")); p != nil || err != nil {
		return false
	}
	if text(body, "cert_url") != s.certURL() || text(body, "auth_algo") != authAlgorithm {
		return false
	}
	digest := sha256.Sum256(signed(text(body, "transmission_id"), text(body, "transmission_time"), text(body, "webhook_id"), raw))
	return rsa.VerifyPKCS1v15(&s.keys.key.PublicKey, crypto.SHA256, digest[:], sig) == nil
}
