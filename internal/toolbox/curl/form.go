package curl

import (
	"bytes"
	"errors"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
)

// formPart is one -F.
type formPart struct{ name, content, file, fileName, kind string }

// addForm reads "NAME=CONTENT", "NAME=@FILE" or "NAME=<FILE", with
// ";type=KIND" and ";filename=NAME" behind a file.
func (c *command) addForm(value string) error {
	name, content, ok := strings.Cut(value, "=")
	if !ok || name == "" {
		return errors.New("option -F: illegally formatted input field, it is NAME=CONTENT")
	}
	p := formPart{name: name, content: content}
	if strings.HasPrefix(content, "@") || strings.HasPrefix(content, "<") {
		fields := strings.Split(content[1:], ";")
		p.file, p.content = fields[0], ""
		for _, f := range fields[1:] {
			k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
			switch k {
			case "type":
				p.kind = v
			case "filename":
				p.fileName = v
			default:
				return fmt.Errorf("option -F: unknown field %q", k)
			}
		}
		if content[0] == '@' && p.fileName == "" {
			p.fileName = filepath.Base(p.file)
		}
	}
	c.form = append(c.form, p)
	return nil
}

func encodeForm(parts []formPart) (data []byte, kind string, err error) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for _, p := range parts {
		content := []byte(p.content)
		if p.file != "" {
			if content, err = os.ReadFile(p.file); err != nil {
				return nil, "", err
			}
		}
		head := textproto.MIMEHeader{}
		disposition := `form-data; name="` + quote.Replace(p.name) + `"`
		if p.fileName != "" {
			disposition += `; filename="` + quote.Replace(p.fileName) + `"`
			head.Set("Content-Type", cmpOr(p.kind, "application/octet-stream"))
		} else if p.kind != "" {
			head.Set("Content-Type", p.kind)
		}
		head.Set("Content-Disposition", disposition)
		part, err := w.CreatePart(head)
		if err != nil {
			return nil, "", err
		}
		if _, err := part.Write(content); err != nil {
			return nil, "", err
		}
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	return buf.Bytes(), w.FormDataContentType(), nil
}
