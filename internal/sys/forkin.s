// Empty: it lets forkin.go declare functions whose bodies the Go runtime has.
