package paypal_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/paypal"
)

// An order is created, the buyer agrees, and the answer to its capture is lost: the repetition under the same request id
// tells what happened, and the money moved once.
func Example() {
	pp := paypal.New(paypal.Config{})
	defer pp.Close()
	host := sim.NewHost(pp, false)
	defer host.Close()
	call := func(path, token, body string) map[string]any {
		req, _ := http.NewRequest(http.MethodPost, host.URL+path, strings.NewReader(body))
		req.SetBasicAuth(paypal.DefaultAccount.ClientID, paypal.DefaultAccount.Secret)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("PayPal-Request-Id", "order-1/1")
		}
		res, err := host.Client().Do(req)
		if err != nil {
			return map[string]any{"status": "unknown"}
		}
		defer func() { _ = res.Body.Close() }()
		var answer map[string]any
		_ = json.NewDecoder(res.Body).Decode(&answer)
		return answer
	}

	token := call("/v1/oauth2/token", "", "grant_type=client_credentials")["access_token"].(string)
	order := call("/v2/checkout/orders", token, `{"intent":"CAPTURE","purchase_units":[
		{"custom_id":"order-1","amount":{"currency_code":"USD","value":"10.00"}}],
		"application_context":{"return_url":"https://shop.example/back"}}`)
	id := order["id"].(string)
	fmt.Println(order["status"])
	_, _ = pp.Approve(id, paypal.Outcome{})

	pp.Add(sim.Fault{On: sim.Match{Path: "/v2/checkout/orders/*/capture"}, At: sim.AfterActing, Do: sim.Reset, Nth: 1})
	fmt.Println(call("/v2/checkout/orders/"+id+"/capture", token, "")["status"])
	fmt.Println(call("/v2/checkout/orders/"+id+"/capture", token, "")["status"])
	fmt.Println(pp.Charges.Count("order-1"), pp.Balance("order-1")["USD"].Charged)
	// Output:
	// CREATED
	// unknown
	// COMPLETED
	// 1 1000
}
