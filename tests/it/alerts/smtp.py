"""A mail server of a few words: smtp.py MODE [CERTIFICATE KEY]. It prints its port, then each mail as a line of JSON."""

import base64, json, socket, ssl, sys, threading

mode, pair = sys.argv[1], sys.argv[2:]
context = None
if pair:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)


def serve(connection):
    is_safe = mode == "tls"
    if is_safe:
        connection = context.wrap_socket(connection, server_side=True)
    stream = connection.makefile("rwb")
    mail = {"to": [], "safe": is_safe, "login": None}

    def say(text):
        stream.write(text.encode() + b"\r\n")
        stream.flush()

    say("220 here")
    while line := stream.readline().decode().rstrip("\r\n"):
        word = line.split(" ")[0].upper()
        if word == "EHLO":
            offers = ["here", "8BITMIME", "AUTH PLAIN LOGIN"] + (["STARTTLS"] if mode == "starttls" and not is_safe else [])
            for offer in offers[:-1]:
                say("250-" + offer)
            say("250 " + offers[-1])
        elif word == "STARTTLS":
            say("220 go on")
            connection = context.wrap_socket(connection, server_side=True)
            stream, is_safe, mail["safe"] = connection.makefile("rwb"), True, True
        elif word == "AUTH":
            _, name, password = base64.b64decode(line.split(" ")[2]).decode().split("\0")
            mail["login"] = [name, password]
            say("235 welcome" if password == "pencil" else "535 not with pencil-" + password)
        elif word == "MAIL":
            mail["from"] = line.split("<")[1].split(">")[0]
            say("250 fine")
        elif word == "RCPT":
            mail["to"].append(line.split("<")[1].split(">")[0])
            say("250 fine")
        elif word == "DATA":
            say("354 go on")
            text = []
            while (part := stream.readline().decode().rstrip("\r\n")) != ".":
                # RFC 5321, section 4.5.2
                text.append(part.removeprefix(".") if part.startswith("..") else part)
            mail["data"] = "\n".join(text)
            print(json.dumps(mail), flush=True)
            say("250 fine")
        elif word == "QUIT":
            say("221 bye")
            break
        else:
            say("500 what")
    connection.close()


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
