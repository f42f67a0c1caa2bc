package paypal

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment"
)

// elsewhere are the words of the tables that are in no specification, but on the
// pages that the tables name; RESOURCE_CONFLICT is a name and no issue.
var elsewhere = []string{"PAYPAL_REQUEST_ID_PREVIOUSLY_USED", "DUPLICATE_REQUEST_ID", "RESOURCE_CONFLICT", "CURRENCY_NOT_SUPPORTED"}

// A misspelt issue in a table would never be met.
func TestTheTablesNameIssuesThatThereAre(t *testing.T) {
	dir := os.Getenv("PAYPAL_SPECS")
	if dir == "" {
		t.Skip("PAYPAL_SPECS isn't set to the folder of PayPal's published descriptions")
	}
	known := map[string]bool{}
	for _, name := range []string{"paypal_checkout_orders_v2.json", "paypal_payments_payment_v2.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		var doc any
		require.NoError(t, json.Unmarshal(data, &doc))
		issues(doc, known)
	}
	require.Greater(t, len(known), 150)
	for _, word := range slices.Concat(slices.Collect(maps.Keys(kinds)), slices.Collect(maps.Keys(declines))) {
		assert.True(t, known[word] || slices.Contains(elsewhere, word), word)
	}
	codes := map[string]bool{}
	data, err := os.ReadFile(filepath.Join(dir, "paypal_payments_payment_v2.json"))
	require.NoError(t, err)
	for code := range responses {
		codes[code] = strings.Contains(string(data), `"`+code+`"`)
		assert.True(t, codes[code], code)
	}
}

// issues collects the enumerations of error details' issues.
func issues(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if issue, ok := v["issue"].(map[string]any); ok {
			enum, _ := issue["enum"].([]any)
			for _, word := range enum {
				if s, ok := word.(string); ok {
					into[s] = true
				}
			}
		}
		for _, x := range v {
			issues(x, into)
		}
	case []any:
		for _, x := range v {
			issues(x, into)
		}
	}
}

func TestAnIssueIsADeclineOrAnError(t *testing.T) {
	for word := range declines {
		assert.NotContains(t, kinds, word)
	}
}

// Money that moves under an unknown reason would get the message of another one.
func TestEveryReasonOfTheTablesHasAMessage(t *testing.T) {
	for _, table := range []map[string]payment.DeclineReason{declines, responses} {
		for word, reason := range table {
			d := payment.NewDecline(reason, word)
			assert.Equal(t, reason, d.Reason, word)
			assert.NotEmpty(t, d.Message)
		}
	}
}

func TestWhatIsNoCodeIsLeftOut(t *testing.T) {
	for in, want := range map[string]string{
		"INSTRUMENT_DECLINED": "INSTRUMENT_DECLINED", " X ": "X", "": "", "a b": "", "<b>": "", "john.doe@example.com": "", strings.Repeat("A", 81): "",
	} {
		assert.Equal(t, want, name(in), in)
	}
	for in, want := range map[string]string{
		"/purchase_units/0/amount/value": "/purchase_units/0/amount/value", "/purchase_units/@reference_id=='default'/amount": "/purchase_units/@reference_id=='default'/amount",
		"a b": "", "/x\n": "/x", "<": "",
	} {
		assert.Equal(t, want, pointer(in), in)
	}
}

func FuzzMethodIDsGoThereAndBack(f *testing.F) {
	for _, s := range []string{"8kk8451t", "card:8kk8451t", "venmo:", "card:venmo:x", "paypal:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) { assert.Equal(t, id, source(id).methodID()) })
}
