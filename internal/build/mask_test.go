package build

import "testing"

func TestMasker(t *testing.T) {
	m := newMasker(map[string]string{
		"build-arg:NPM_TOKEN": "hush", "build-arg:OTHER_TOKEN": "hush-hush", "build-arg:KEY": "1", "build-arg:V": "plain", "build-arg:PUBLIC_KEY": "shown", "target": "token",
	})
	for text, want := range map[string]string{
		"[2/3] RUN curl -H hush":                          "[2/3] RUN curl -H ***",
		"a hush-hush b hush":                              "a *** b ***",
		"1 plain shown token":                             "1 plain shown token",
		"ADD https://me:pass@example.com/x ssh://git@h/y": "ADD https://xxxxx@example.com/x ssh://xxxxx@h/y",
		"docker-image://docker.io/library/x@sha256:aa":    "docker-image://docker.io/library/x@sha256:aa",
		"https://example.com/a@b":                         "https://example.com/a@b",
	} {
		if got := m.text(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := (masker{}).text("x"); got != "x" {
		t.Errorf("%q", got)
	}
}
