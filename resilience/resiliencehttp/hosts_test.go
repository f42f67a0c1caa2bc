package resiliencehttp_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// fleet is a base that answers for many hosts by name, and remembers what it was
// asked.
type fleet struct {
	status map[string]int // 200 where there is none; 0 can't be reached
	asked  []string
	header []http.Header
	hosts  []string // the Host header
}

func (f *fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	f.asked = append(f.asked, r.Method+" "+r.URL.String())
	f.header = append(f.header, r.Header)
	f.hosts = append(f.hosts, r.Host)
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	status, ok := f.status[r.URL.Host]
	if !ok {
		status = 200
	}
	if status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: status, Request: r, Body: io.NopCloser(strings.NewReader("from " + r.URL.Host))}, nil
}

func once() resilience.Policy {
	p := quick()
	p.Retries = 0
	return p
}

func (f *fleet) transport(t *testing.T, p resilience.Policy, options ...resiliencehttp.Option) *resiliencehttp.Transport {
	t.Helper()
	tr, err := resiliencehttp.New(p, append([]resiliencehttp.Option{resiliencehttp.WithBase(f)}, options...)...)
	require.NoError(t, err)
	return tr
}

func get(t *testing.T, tr *resiliencehttp.Transport, method, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer token")
	return tr.RoundTrip(req)
}

func TestEachHostHasItsOwnState(t *testing.T) {
	f := &fleet{status: map[string]int{"down.test": 500}}
	tr := f.transport(t, once())
	for range 6 {
		if resp, err := get(t, tr, "GET", "https://down.test/"); err == nil {
			read(t, resp)
		}
	}
	_, err := get(t, tr, "GET", "https://down.test/")
	assert.ErrorIs(t, err, resilience.ErrOpen)
	_, err = get(t, tr, "GET", "https://DOWN.test:443/elsewhere")
	assert.ErrorIs(t, err, resilience.ErrOpen, "the same origin")
	for _, other := range []string{"https://up.test/", "http://down.test:8080/", "https://down.test:8443/"} {
		resp, err := get(t, tr, "GET", other)
		require.NoError(t, err, other)
		read(t, resp)
	}
}

func TestTheHostsThatAreRememberedAreBounded(t *testing.T) {
	f := &fleet{status: map[string]int{"down.test": 500}}
	tr := f.transport(t, once(), resiliencehttp.WithMaxHosts(3), resiliencehttp.WithBackup("https://main.test", "https://spare.test"))
	fail := func() error {
		resp, err := get(t, tr, "GET", "https://down.test/")
		if err == nil {
			read(t, resp)
		}
		return err
	}
	for range 5 {
		require.NoError(t, fail())
	}
	require.ErrorIs(t, fail(), resilience.ErrOpen)
	for i := range 100 {
		resp, err := get(t, tr, "GET", fmt.Sprintf("https://h%d.test/", i))
		require.NoError(t, err)
		read(t, resp)
	}
	names := []string{}
	for _, s := range tr.Inspect() {
		names = append(names, s.Name)
	}
	assert.Equal(t, []string{"main.test", "spare.test", "h97.test", "h98.test", "h99.test"}, names)
	assert.NoError(t, fail(), "its open breaker was forgotten")
}

func TestHostsHaveReadableNames(t *testing.T) {
	for url, want := range map[string]string{
		"https://API.Example.com/v1?key=1":                "api.example.com",
		"https://api.example.com:443":                     "api.example.com",
		"http://api.example.com:80":                       "api.example.com",
		"http://api.example.com:443":                      "api.example.com-443",
		"http://[::1]:8080":                               "---1--8080",
		"https://bücher.example":                          "b-cher.example",
		"https://" + strings.Repeat("a", 90) + ".example": strings.Repeat("a", 56) + ".example",
	} {
		resp, err := get(t, (&fleet{}).transport(t, once()), "GET", url)
		require.NoError(t, err, url)
		name, attempts := resiliencehttp.Answered(resp)
		assert.Equal(t, want, name)
		assert.Equal(t, 1, attempts)
		read(t, resp)
	}
}

const (
	main   = "https://main.test"
	spare  = "https://spare.test:8443"
	second = "https://second.test"
)

func TestABackupIsAskedWhereTheTableAllowsIt(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		status map[string]int
		asked  []string
		from   string
		code   int
	}{
		"not while the first answers":         {"GET", nil, []string{"GET https://main.test/v1/a?q=1"}, "main.test", 200},
		"for a read that fails":               {"GET", map[string]int{"main.test": 503}, []string{"GET https://main.test/v1/a?q=1", "GET https://spare.test:8443/v1/a?q=1"}, "spare.test:8443", 200},
		"for a read that breaks off":          {"GET", map[string]int{"main.test": 0}, []string{"GET https://main.test/v1/a?q=1", "GET https://spare.test:8443/v1/a?q=1"}, "spare.test:8443", 200},
		"the next backup after that":          {"PUT", map[string]int{"main.test": 500, "spare.test:8443": 429}, []string{"PUT https://main.test/v1/a?q=1", "PUT https://spare.test:8443/v1/a?q=1", "PUT https://second.test/v1/a?q=1"}, "second.test", 200},
		"the last response where all fail":    {"GET", map[string]int{"main.test": 500, "spare.test:8443": 502, "second.test": 503}, []string{"GET https://main.test/v1/a?q=1", "GET https://spare.test:8443/v1/a?q=1", "GET https://second.test/v1/a?q=1"}, "second.test", 503},
		"not for a POST that may have acted":  {"POST", map[string]int{"main.test": 503}, []string{"POST https://main.test/v1/a?q=1"}, "main.test", 503},
		"for a POST that is over the rate":    {"POST", map[string]int{"main.test": 429}, []string{"POST https://main.test/v1/a?q=1", "POST https://spare.test:8443/v1/a?q=1"}, "spare.test:8443", 200},
		"not for an answer that isn't liked":  {"GET", map[string]int{"main.test": 404}, []string{"GET https://main.test/v1/a?q=1"}, "main.test", 404},
		"not for credentials that are denied": {"GET", map[string]int{"main.test": 401}, []string{"GET https://main.test/v1/a?q=1"}, "main.test", 401},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fleet{status: c.status}
			tr := f.transport(t, once(), resiliencehttp.WithBackup(main, spare, second))
			resp, err := get(t, tr, c.method, main+"/v1/a?q=1")
			require.NoError(t, err)
			assert.Equal(t, c.asked, f.asked)
			assert.Equal(t, c.code, resp.StatusCode)
			assert.Equal(t, "from "+c.from, read(t, resp))
			assert.Equal(t, c.from, resp.Request.URL.Host)
			host, attempts := resiliencehttp.Answered(resp)
			assert.Equal(t, strings.ReplaceAll(c.from, ":", "-"), host)
			assert.Equal(t, len(c.asked), attempts)
			for i, h := range f.header {
				assert.Equal(t, "Bearer token", h.Get("Authorization"), "a backup that was named gets the credentials")
				if i > 0 {
					assert.Empty(t, f.hosts[i], "the host of its own")
				}
			}
		})
	}
}

func TestABackupIsOfOneOriginAlone(t *testing.T) {
	f := &fleet{status: map[string]int{"other.test": 503, "main.test": 503}}
	tr := f.transport(t, once(), resiliencehttp.WithBackup(main, spare))
	for _, url := range []string{"https://other.test/", "http://main.test/", "https://main.test:8443/"} {
		f.asked = nil
		resp, err := get(t, tr, "GET", url)
		require.NoError(t, err)
		assert.Equal(t, []string{"GET " + url}, f.asked)
		read(t, resp)
	}
}

func TestAHostHeaderOfOnesOwnGoesToTheBackup(t *testing.T) {
	f := &fleet{status: map[string]int{"main.test": 503}}
	tr := f.transport(t, once(), resiliencehttp.WithBackup(main, spare))
	req, _ := http.NewRequestWithContext(t.Context(), "GET", main, nil)
	req.Host = "tenant.example"
	resp, err := tr.RoundTrip(req)
	require.NoError(t, err)
	read(t, resp)
	assert.Equal(t, []string{"tenant.example", "tenant.example"}, f.hosts)
}

func TestAnOpenPrimaryIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{status: map[string]int{"main.test": 503}}
		tr := f.transport(t, once(), resiliencehttp.WithBackup(main, spare))
		for range 10 {
			resp, err := get(t, tr, "GET", main)
			require.NoError(t, err)
			assert.Equal(t, 200, resp.StatusCode)
			read(t, resp)
		}
		assert.Len(t, f.asked, 5+10)
		f.status = nil
		time.Sleep(40 * time.Second)
		resp, err := get(t, tr, "POST", main)
		require.NoError(t, err)
		assert.Equal(t, "from main.test", read(t, resp))
	})
}

func TestWeightsAreOfTheHostsThatHaveThem(t *testing.T) {
	p := once()
	p.Route, p.Weights = resilience.Weighted, map[string]int{"main.test": 0, "spare.test-8443": 1}
	f := &fleet{}
	tr := f.transport(t, p, resiliencehttp.WithBackup(main, spare))
	for url, from := range map[string]string{main: "spare.test:8443", "https://other.test": "other.test"} {
		resp, err := get(t, tr, "GET", url)
		require.NoError(t, err)
		assert.Equal(t, "from "+from, read(t, resp))
	}
}

func TestAHostIsControlledAtRunTime(t *testing.T) {
	f := &fleet{}
	tr := f.transport(t, once(), resiliencehttp.WithBackup(main, spare))
	for origin, name := range map[string]string{"https://one.test/": "one.test", main: "main.test"} {
		c, err := tr.Control(origin)
		require.NoError(t, err)
		require.NoError(t, c.Switch(name, resilience.ForcedOpen))
	}
	_, err := get(t, tr, "GET", "https://one.test/path")
	assert.ErrorIs(t, err, resilience.ErrOpen)
	resp, err := get(t, tr, "GET", main)
	require.NoError(t, err)
	assert.Equal(t, "from spare.test:8443", read(t, resp))
	_, err = tr.Control("one.test")
	assert.ErrorContains(t, err, "an origin is a scheme and a host")
}

func TestAKeyHasLimitsOfItsOwnAtEachHost(t *testing.T) {
	p := once()
	p.PerKey = &resilience.Policy{Rate: 0.001, Burst: 1}
	tr := (&fleet{}).transport(t, p)
	call := func(host, tenant string) error {
		req, _ := http.NewRequestWithContext(resilience.WithTenant(t.Context(), tenant), "GET", host, nil)
		resp, err := tr.RoundTrip(req)
		if err == nil {
			read(t, resp)
		}
		return err
	}
	require.NoError(t, call("https://a.test", "t1"))
	assert.ErrorIs(t, call("https://a.test", "t1"), resilience.ErrLimited)
	assert.NoError(t, call("https://a.test", "t2"))
	assert.NoError(t, call("https://b.test", "t1"))
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	backup := resiliencehttp.WithBackup
	for name, c := range map[string]struct {
		policy resilience.Policy
		option resiliencehttp.Option
		says   string
	}{
		"a bad policy":                   {resilience.Policy{Timeout: -1}, nil, "negative"},
		"a hedge":                        {resilience.Policy{Hedge: resilience.Hedge{After: 1}}, nil, "Hedge"},
		"no room":                        {once(), resiliencehttp.WithMaxHosts(0), "WithMaxHosts"},
		"no safety":                      {once(), resiliencehttp.WithSafety(nil), "WithSafety"},
		"no classifier":                  {once(), resiliencehttp.WithClassifier(nil), "WithClassifier"},
		"no backup":                      {once(), backup(main), "at least one backup"},
		"a backup that is the primary":   {once(), backup(main, main+":443"), "two members are named"},
		"a backup in the clear":          {once(), backup(main, "http://spare.test"), "in the clear"},
		"a backup without a scheme":      {once(), backup(main, "spare.test"), "an origin is"},
		"a backup of another scheme":     {once(), backup(main, "ftp://spare.test"), "an origin is"},
		"a backup with a path":           {once(), backup(main, "https://spare.test/eu"), "an origin is"},
		"a backup with a password":       {once(), backup(main, "https://me:hunter2@spare.test"), "an origin is"},
		"a backup with a query":          {once(), backup(main, "https://spare.test?key=hunter2"), "an origin is"},
		"a backup that is no URL at all": {once(), backup(main, "https://hunter2:hunter2:hunter2"), "an origin is"},
	} {
		t.Run(name, func(t *testing.T) {
			options := []resiliencehttp.Option{}
			if c.option != nil {
				options = append(options, c.option)
			}
			_, err := resiliencehttp.New(c.policy, options...)
			require.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
	_, err := resiliencehttp.New(once(), backup(main, spare), backup(main+"/", second))
	assert.ErrorContains(t, err, "main.test twice")
	_, err = resiliencehttp.New(once(), backup("http://internal", "http://internal-2"), backup(main, "http://127.0.0.1:1", "http://localhost:2"))
	assert.NoError(t, err)
}

func TestSafetyOfTheMethods(t *testing.T) {
	for method, want := range map[string]fault.Safety{
		"": fault.Read, "GET": fault.Read, "HEAD": fault.Read, "OPTIONS": fault.Read, "TRACE": fault.Read,
		"PUT": fault.Idempotent, "DELETE": fault.Idempotent,
		"POST": fault.Once, "PATCH": fault.Once, "CONNECT": fault.Once, "get": fault.Once, "REPORT": fault.Once,
	} {
		assert.Equal(t, want, resiliencehttp.Safety(&http.Request{Method: method}), method)
	}
	for name, h := range map[string]http.Header{
		"a key":            {"Idempotency-Key": {"k"}},
		"the other's name": {"X-Idempotency-Key": {"k"}},
		"no values":        {"Idempotency-Key": nil},
		"an empty value":   {"X-Idempotency-Key": {""}},
	} {
		want := map[bool]fault.Safety{true: fault.Idempotent, false: fault.Once}[strings.HasPrefix(name, "no") || strings.HasPrefix(name, "an")]
		assert.Equal(t, want, resiliencehttp.Safety(&http.Request{Method: "POST", Header: h}), name)
	}
}

func TestADefaultBaseWorks(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(503, 200))
	tr, err := resiliencehttp.New(quick())
	require.NoError(t, err)
	client := &http.Client{Transport: tr}
	resp, err := client.Do(s.request(t, "GET", ""))
	require.NoError(t, err)
	assert.Equal(t, "answer 2", read(t, resp))
	client.CloseIdleConnections() // or goleak finds its connection
}
