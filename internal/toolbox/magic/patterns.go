package magic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// pattern is a format that is known by bytes at a place.
type pattern struct {
	at         int
	bytes      string
	text, kind string
	more       func(head []byte) string // nil: nothing is added to text
}

var patterns = []pattern{
	{0, "\x1f\x8b", "gzip compressed data", "application/gzip", gzipMore},
	{0, "\x28\xb5\x2f\xfd", "Zstandard compressed data (v0.8+)", "application/zstd", nil},
	{0, "\xfd7zXZ\x00", "XZ compressed data", "application/x-xz", nil},
	{0, "BZh", "bzip2 compressed data", "application/x-bzip2", nil},
	{0, "\x04\x22\x4d\x18", "LZ4 compressed data (v1.4+)", "application/x-lz4", nil},
	{0, "\x5d\x00\x00", "LZMA compressed data", "application/x-lzma", nil},
	{257, "ustar  \x00", "POSIX tar archive (GNU)", "application/x-tar", nil},
	{257, "ustar\x00", "POSIX tar archive", "application/x-tar", nil},
	{0, "PK\x03\x04", "Zip archive data", "application/zip", zipMore},
	{0, "PK\x05\x06", "Zip archive data (empty)", "application/zip", nil},
	{0, "7z\xbc\xaf\x27\x1c", "7-zip archive data", "application/x-7z-compressed", nil},
	{0, "Rar!\x1a\x07", "RAR archive data", "application/x-rar", nil},
	{0, "!<arch>\ndebian-binary", "Debian binary package (format 2.0)", "application/vnd.debian.binary-package", nil},
	{0, "!<arch>\n", "current ar archive", "application/x-archive", nil},
	{0, "\xed\xab\xee\xdb", "RPM package", "application/x-rpm", nil},
	{0, "070701", "ASCII cpio archive (SVR4 with no CRC)", "application/x-cpio", nil},
	{0, "hsqs", "Squashfs filesystem, little endian", "application/octet-stream", nil},
	{0, "\x89PNG\r\n\x1a\n", "PNG image data", "image/png", pngMore},
	{0, "\xff\xd8\xff", "JPEG image data", "image/jpeg", nil},
	{0, "GIF87a", "GIF image data, version 87a", "image/gif", gifMore},
	{0, "GIF89a", "GIF image data, version 89a", "image/gif", gifMore},
	{8, "WEBP", "RIFF (little-endian) data, Web/P image", "image/webp", nil},
	{8, "WAVE", "RIFF (little-endian) data, WAVE audio", "audio/x-wav", nil},
	{0, "\x00\x00\x01\x00", "MS Windows icon resource", "image/vnd.microsoft.icon", nil},
	{0, "II*\x00", "TIFF image data, little-endian", "image/tiff", nil},
	{0, "MM\x00*", "TIFF image data, big-endian", "image/tiff", nil},
	{0, "BM", "PC bitmap", "image/bmp", nil},
	{4, "ftyp", "ISO Media", "video/mp4", nil},
	{0, "OggS", "Ogg data", "application/ogg", nil},
	{0, "ID3", "Audio file with ID3", "audio/mpeg", nil},
	{0, "fLaC", "FLAC audio bitstream data", "audio/flac", nil},
	{0, "\x1a\x45\xdf\xa3", "Matroska data", "video/x-matroska", nil},
	{0, "wOFF", "Web Open Font Format", "font/woff", nil},
	{0, "wOF2", "Web Open Font Format (Version 2)", "font/woff2", nil},
	{0, "\x00\x01\x00\x00\x00", "TrueType Font data", "font/sfnt", nil},
	{0, "OTTO", "OpenType font data", "application/vnd.ms-opentype", nil},
	{0, "%PDF-", "PDF document", "application/pdf", pdfMore},
	{0, "%!PS", "PostScript document text", "application/postscript", nil},
	{0, "SQLite format 3\x00", "SQLite 3.x database", "application/vnd.sqlite3", nil},
	{0, "\xca\xfe\xba\xbe", "compiled Java class data", "application/x-java-applet", javaMore},
	{0, "\x00asm", "WebAssembly (wasm) binary module", "application/wasm", wasmMore},
	{0, "MZ", "PE executable for MS Windows", "application/vnd.microsoft.portable-executable", nil},
	{0, "\xcf\xfa\xed\xfe", "Mach-O 64-bit executable or library", "application/x-mach-binary", nil},
	{0, "dex\n", "Dalvik dex file", "application/octet-stream", nil},
	{2, "\r\r\n", "Byte-compiled Python module", "application/x-bytecode.python", nil}, // Include/internal/pycore_magic_number.h
	{2, "\r\n\x00\x00\x00\x00", "Byte-compiled Python module", "application/x-bytecode.python", nil},
	{0, "\xde\x12\x04\x95", "GNU message catalog (little endian)", "application/x-gettext-translation", nil},
	{0, "TZif", "timezone data", "application/tzif", nil},
	{0, "\xd4\xc3\xb2\xa1", "pcap capture file, microsecond ts (little-endian)", "application/vnd.tcpdump.pcap", nil},
	{0, "\x0a\x0d\x0d\x0a", "pcapng capture file", "application/x-pcapng", nil},
	{0x438, "\x53\xef", "Linux ext2, ext3 or ext4 filesystem data", "application/octet-stream", nil},
	{0x8001, "CD001", "ISO 9660 CD-ROM filesystem data", "application/x-iso9660-image", nil},
	{0x1018, "LVM2", "LVM2 PV (Linux Logical Volume Manager)", "application/octet-stream", nil},
}

// gzipMore reads the header of RFC 1952.
func gzipMore(head []byte) string {
	if len(head) < 10 {
		return ", truncated"
	}
	text := ""
	const hasName = 8
	rest := head[10:]
	if head[3] == hasName {
		if name, _, ok := bytes.Cut(rest, []byte{0}); ok {
			text += fmt.Sprintf(", was %q", name)
		}
	}
	if at := binary.LittleEndian.Uint32(head[4:]); at != 0 {
		text += ", last modified: " + time.Unix(int64(at), 0).UTC().Format("Mon Jan _2 15:04:05 2006")
	}
	return text
}

// zipMore tells what the first file of a zip says of it.
func zipMore(head []byte) string {
	if len(head) < 30 {
		return ""
	}
	n := int(binary.LittleEndian.Uint16(head[26:]))
	name := string(head[30:min(len(head), 30+n)])
	switch {
	case strings.HasPrefix(name, "META-INF/"):
		return ", Java archive (JAR)"
	case name == "[Content_Types].xml":
		return ", Microsoft OOXML"
	case name == "mimetype" && bytes.Contains(head[:min(len(head), 120)], []byte("opendocument")):
		return ", OpenDocument"
	}
	return ""
}

func pngMore(head []byte) string {
	if len(head) < 29 {
		return ""
	}
	colors := map[byte]string{0: "grayscale", 2: "RGB", 3: "colormap", 4: "gray+alpha", 6: "RGBA"}
	return fmt.Sprintf(", %d x %d, %d-bit %s", binary.BigEndian.Uint32(head[16:]), binary.BigEndian.Uint32(head[20:]), head[24], colors[head[25]])
}

func gifMore(head []byte) string {
	if len(head) < 10 {
		return ""
	}
	return fmt.Sprintf(", %d x %d", binary.LittleEndian.Uint16(head[6:]), binary.LittleEndian.Uint16(head[8:]))
}

func pdfMore(head []byte) string {
	version, _, _ := bytes.Cut(head[5:min(len(head), 13)], []byte("\r"))
	version, _, _ = bytes.Cut(version, []byte("\n"))
	return ", version " + string(version)
}

func javaMore(head []byte) string {
	if len(head) < 8 {
		return ""
	}
	major := binary.BigEndian.Uint16(head[6:])
	if major < 45 {
		return "" // a Mach-O file for several machines begins in the same way
	}
	return fmt.Sprintf(", version %d.%d (Java %d)", major, binary.BigEndian.Uint16(head[4:]), major-44)
}

func wasmMore(head []byte) string {
	if len(head) < 8 {
		return ""
	}
	return fmt.Sprintf(" version %#x (MVP)", binary.LittleEndian.Uint32(head[4:]))
}
