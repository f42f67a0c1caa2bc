package file_test

import (
	"bufio"
	"context"
	"errors"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/file"
	"github.com/smilefactory/integrations/fault"
)

func letter() *email.Message {
	return &email.Message{
		ID: "m-1", From: email.Address{Name: "Ada Lövelace", Address: "ada@bücher.example"}, To: []email.Address{{Address: "grace@example.org"}},
		Subject: "Grüße", Text: "line 1\nFrom here\n.\n",
	}
}

// send writes one mail and reads its file.
func send(t *testing.T, dir string, m *email.Message) (*email.Receipt, string) {
	t.Helper()
	receipt, err := file.Sender{Dir: dir}.Send(t.Context(), m)
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(dir, "new", receipt.ProviderID))
	require.NoError(t, err)
	return receipt, string(raw)
}

func TestAMaildirHasItsThreeFoldersForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "mail")
	receipt, _ := send(t, dir, letter())
	for _, sub := range []string{"", "tmp", "new", "cur"} {
		info, err := os.Stat(filepath.Join(dir, sub))
		require.NoError(t, err)
		assert.Equal(t, os.ModeDir|0o700, info.Mode(), sub)
	}
	info, err := os.Stat(filepath.Join(dir, "new", receipt.ProviderID))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode(), "a mail may hold a token")
	assert.Empty(t, files(t, dir, "tmp"))
	assert.Empty(t, files(t, dir, "cur"))
}

func TestTheMessageIDIsInTheReceipt(t *testing.T) {
	receipt, raw := send(t, t.TempDir(), letter())
	assert.Equal(t, "m-1@xn--bcher-kva.example", receipt.MessageID)
	assert.Contains(t, raw, "Message-ID: <m-1@xn--bcher-kva.example>\n")
}

func TestLinesEndAsAMaildirHasThem(t *testing.T) {
	m := letter()
	m.Attachments = []email.Attachment{{Name: "crlf.bin", Data: []byte("a\r\nb\r\n")}}
	_, raw := send(t, t.TempDir(), m)
	assert.NotContains(t, raw, "\r")
}

func TestWhatARecipientDoesNotSeeIsShown(t *testing.T) {
	m := letter()
	m.Bcc = []email.Address{{Name: "Grüne, Karl", Address: "karl@example.org"}, {Address: "archive@example.com"}}
	m.Tags, m.Metadata = []string{"welcome", "über"}, map[string]string{"order": "7", "plan": "größer"}
	m.SendAt = time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC)
	receipt, raw := send(t, t.TempDir(), m)
	assert.Equal(t, email.StatusScheduled, receipt.Status)
	parsed, err := mail.ReadMessage(bufio.NewReader(strings.NewReader(raw)))
	require.NoError(t, err)
	bcc, err := parsed.Header.AddressList("Bcc")
	require.NoError(t, err)
	assert.Equal(t, []*mail.Address{{Name: "Grüne, Karl", Address: "karl@example.org"}, {Address: "archive@example.com"}}, bcc)
	assert.Equal(t, "m-1", parsed.Header.Get("X-Message-Id"))
	assert.Equal(t, "Fri, 02 Jan 2099 03:04:05 +0000", parsed.Header.Get("X-Send-At"))
	assert.Equal(t, "7", parsed.Header.Get("X-Metadata-Order"))
	words := new(mime.WordDecoder)
	tags, err := words.DecodeHeader(parsed.Header.Get("X-Tag"))
	require.NoError(t, err)
	assert.Equal(t, "welcome, über", tags)
	plan, err := words.DecodeHeader(parsed.Header.Get("X-Metadata-Plan"))
	require.NoError(t, err)
	assert.Equal(t, "größer", plan)
}

func TestASendTimeInThePastMeansNow(t *testing.T) {
	m := letter()
	m.SendAt = time.Now().Add(-time.Minute)
	receipt, raw := send(t, t.TempDir(), m)
	assert.Equal(t, email.StatusAccepted, receipt.Status)
	assert.NotContains(t, raw, "X-Send-At")
}

func TestAFileNameIsSafeAndItsOwn(t *testing.T) {
	dir := t.TempDir()
	m := letter()
	m.ID = strings.Repeat("Z", 64)
	names := map[string]bool{}
	for range 100 {
		receipt, _ := send(t, dir, m) // the same mail again and again
		assert.Regexp(t, `^\d+\.M\d{6}R[A-Z2-7]{26}-Z{64}\.[A-Za-z0-9.-]{1,64}$`, receipt.ProviderID)
		assert.LessOrEqual(t, len(receipt.ProviderID), 255)
		names[receipt.ProviderID] = true
	}
	assert.Len(t, names, 100)
}

func TestEveryMailAppearsWhole(t *testing.T) {
	dir := t.TempDir()
	m := letter()
	m.Attachments = []email.Attachment{{Name: "large.bin", Data: make([]byte, 1<<20)}}
	_, whole := send(t, dir, m)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := file.Sender{Dir: dir}.Send(t.Context(), m)
				assert.NoError(t, err)
			}
		})
	}
	for seen := 0; seen < 50; {
		all := files(t, dir, "new")
		seen = len(all)
		for _, name := range all {
			info, err := os.Stat(filepath.Join(dir, "new", name))
			require.NoError(t, err)
			require.EqualValues(t, len(whole), info.Size(), "a reader never sees a half")
		}
	}
	cancel()
	wg.Wait()
}

func TestWhatCannotBeWrittenIsUnavailable(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"the folder is a file": func(t *testing.T, dir string) { require.NoError(t, os.WriteFile(dir, nil, 0o600)) },
		"new is a file":        func(t *testing.T, dir string) { put(t, dir, "new") },
		"tmp is a file":        func(t *testing.T, dir string) { put(t, dir, "tmp") },
		"tmp leads nowhere": func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(dir, 0o700))
			require.NoError(t, os.Symlink("/nowhere/at/all", filepath.Join(dir, "tmp")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mail")
			spoil(t, dir)
			_, err := file.Sender{Dir: dir}.Send(t.Context(), letter())
			require.ErrorIs(t, err, fault.Unavailable)
			_, ok := errors.AsType[*os.PathError](err)
			assert.True(t, ok, "it says what is wrong: %v", err)
		})
	}
}

func put(t *testing.T, dir, name string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
}

func TestAFolderWithoutPermissionIsUnavailable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write anywhere")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	_, err := file.Sender{Dir: dir}.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, os.ErrPermission)
}

func TestWhatIsSetHereIsRefused(t *testing.T) {
	for field, spoil := range map[string]func(*email.Message){
		"headers[x-message-ID]": func(m *email.Message) { m.Headers = map[string]string{"x-message-ID": "x"} },
		"headers[X-TAG]":        func(m *email.Message) { m.Headers = map[string]string{"X-TAG": "x"} },
		"headers[X-Metadata-A]": func(m *email.Message) { m.Headers = map[string]string{"X-Metadata-A": "x"} },
		"headers[X-Send-At]":    func(m *email.Message) { m.Headers = map[string]string{"X-Send-At": "x"} },
		"metadata[k]":           func(m *email.Message) { m.Metadata = map[string]string{"k": strings.Repeat("x", 1000)} },
	} {
		dir := t.TempDir()
		m := letter()
		spoil(m)
		_, err := file.Sender{Dir: dir}.Send(t.Context(), m)
		require.ErrorIs(t, err, fault.Unsupported)
		wrong, ok := errors.AsType[*email.FieldError](err)
		require.True(t, ok)
		assert.Equal(t, field, wrong.Field)
		assert.Empty(t, files(t, dir, "new"))
	}
}

func TestDirIsRequired(t *testing.T) {
	assert.EqualError(t, file.Sender{}.Check(), "file: Dir is required")
	assert.NoError(t, file.Sender{Dir: "mail"}.Check())
	_, err := file.Sender{}.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Denied)
	assert.Equal(t, "file", file.Sender{}.Name())
}
