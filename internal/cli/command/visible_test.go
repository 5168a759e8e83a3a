package command

import "testing"

func TestVisible(t *testing.T) {
	const text = "a\tb\nc\r\x1b[2Jd\u202ee\x9bf é"
	if got, want := Visible(text), "a b\ufffdc\ufffd\ufffd[2Jd\ufffde\ufffdf é"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := VisibleText(text), "a\tb\nc\ufffd\ufffd[2Jd\ufffde\ufffdf é"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestVisibleJSON(t *testing.T) {
	const text = "{\n  \"a\": \"\\u001bé\u009b\u202e\"\n}"
	if got, want := visibleJSON(text), "{\n  \"a\": \"\\u001bé\\u009b\\u202e\"\n}"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
