package dev.parlance.example;

/** The command-line options. */
record Options(boolean isHelp, String userService, String messageService, String prefix, int restarts) {
  static final String USAGE =
      """
      Usage: java -jar target/client.jar [OPTIONS]

        --user-service ADDRESS     address of user-service (USER_SERVICE, else 127.0.0.1:50051)
        --message-service ADDRESS  address of message-service (MESSAGE_SERVICE, else 127.0.0.1:50052)
        --prefix TEXT              prefix of all ids; a second run needs another one (java-)
        --restarts COUNT           number of restarts of the services to wait for (0)""";

  static Options parse(String[] arguments) {
    boolean isHelp = false;
    String userService = System.getenv().getOrDefault("USER_SERVICE", "127.0.0.1:50051");
    String messageService = System.getenv().getOrDefault("MESSAGE_SERVICE", "127.0.0.1:50052");
    String prefix = "java-";
    int restarts = 0;
    for (int at = 0; at < arguments.length; at++) {
      String name = arguments[at];
      if (name.equals("--help")) {
        isHelp = true;
        continue;
      }
      if (++at == arguments.length) {
        throw new IllegalArgumentException("nothing follows " + name);
      }
      switch (name) {
        case "--user-service" -> userService = arguments[at];
        case "--message-service" -> messageService = arguments[at];
        case "--prefix" -> prefix = arguments[at];
        case "--restarts" -> restarts = Integer.parseInt(arguments[at]);
        default -> throw new IllegalArgumentException("there is no " + name);
      }
    }
    return new Options(isHelp, userService, messageService, prefix, restarts);
  }
}
