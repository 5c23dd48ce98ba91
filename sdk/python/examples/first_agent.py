from clove_sdk import CloveClient

with CloveClient() as client:
    # Test connection
    info = client.hello()
    print(f"Connected to kernel v{info.version}")

    # Execute a command
    result = client.exec("echo 'Hello from Clove!'")
    print(result.stdout)

    # Read/write files
    client.write_file("/tmp/test.txt", "Hello World")
    content = client.read_file("/tmp/test.txt")
    print(content.content)
